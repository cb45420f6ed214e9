// What a client needs that has no browser: the user's consent is one request whose answer redirects to the client.

import { UnauthorizedError, auth, computeScopeUnion, extractWWWAuthenticateParams, isStrictScopeSuperset } from "@modelcontextprotocol/client";

const CALLBACK = "http://localhost:3000/callback";

class Provider {
  redirectUrl = CALLBACK;
  clientMetadata = { client_name: "conformance", redirect_uris: [CALLBACK] };
  clientMetadataUrl = "https://conformance-test.local/client-metadata.json";
  #kept = {};

  // Registered beforehand where the suite hands out an id.
  constructor(context) {
    const { client_id, client_secret } = context;
    if (client_id) this.#kept.client = { client_id, client_secret, redirect_uris: [CALLBACK] };
  }

  clientInformation = () => this.#kept.client;
  saveClientInformation = (client) => (this.#kept.client = client);
  tokens = () => this.#kept.tokens;
  saveTokens = (tokens) => (this.#kept.tokens = tokens);
  codeVerifier = () => this.#kept.verifier;
  saveCodeVerifier = (verifier) => (this.#kept.verifier = verifier);
  discoveryState = () => this.#kept.discovery;
  saveDiscoveryState = (discovery) => (this.#kept.discovery = discovery);
  invalidateCredentials = (scope) => (scope === "all" ? (this.#kept = {}) : delete this.#kept[scope]);

  async redirectToAuthorization(url) {
    const { headers } = await fetch(url, { redirect: "manual" });
    const { searchParams } = new URL(headers.get("location"));
    this.consent = { authorizationCode: searchParams.get("code"), iss: searchParams.get("iss") ?? undefined };
  }
}

// A fetch that asks for authorization where the server wants it, and then once more for what it was asked.
export function authorizing(fetch, serverUrl, context) {
  const provider = new Provider(context);
  const send = (input, init) => {
    const headers = new Headers(init?.headers);
    const tokens = provider.tokens();
    if (tokens) headers.set("authorization", `Bearer ${tokens.access_token}`);
    return fetch(input, { ...init, headers });
  };
  const authorize = async (response) => {
    const { resourceMetadataUrl, scope: asked } = extractWWWAuthenticateParams(response);
    const granted = provider.tokens()?.scope;
    const scope = response.status === 403 ? computeScopeUnion(granted, asked) : asked;
    if (response.status === 401) provider.invalidateCredentials("discovery");
    const options = { serverUrl, resourceMetadataUrl, scope, fetchFn: fetch, forceReauthorization: isStrictScopeSuperset(scope, granted) };
    if ((await auth(provider, options)) === "REDIRECT") await auth(provider, { ...options, ...provider.consent });
  };
  const isRefused = ({ status }) => status === 401 || status === 403;
  return async (input, init) => {
    let response = await send(input, init);
    if (isRefused(response)) {
      await authorize(response);
      response = await send(input, init);
    }
    if (isRefused(response)) throw new UnauthorizedError(`not authorized for ${input}`);
    return response;
  };
}
