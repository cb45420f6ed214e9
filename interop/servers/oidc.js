// An OpenID Connect provider (npm oidc-provider), over TLS.
//
// usage: oidc.js ADDRESS FOLDER     FOLDER has key.pem and cert.pem for ADDRESS; NODE_EXTRA_CA_CERTS names the latter
//
// The first line of stdout is its URL. Each line of stdin is a step: {"token": audience} gets an access token of the client `agent` at the
// token endpoint, {"rotate": true} replaces the keys, as an issuer does whose key has leaked. Each prints one line: {"token"} or {"rotated"}.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const [address, folder] = process.argv.slice(2);
const SECRET = randomUUID();
// Its advice on production would stand between the answers.
console.info = console.warn = console.error;
const file = (name) => readFileSync(`${folder}/${name}`);

function provider(issuer) {
  const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });
  return new Provider(issuer, {
    jwks: { keys: [{ ...key, kid: randomUUID(), alg: "ES256", use: "sig" }] },
    clients: [
      {
        client_id: "agent",
        client_secret: SECRET,
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: "client_secret_post",
        id_token_signed_response_alg: "ES256",
      },
    ],
    ttl: { ClientCredentials: 600 },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({ scope: "", audience: resource, accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } }),
      },
    },
  }).callback();
}

let answer;
const server = createServer({ key: file("key.pem"), cert: file("cert.pem") }, (request, response) => answer(request, response));
await new Promise((listening) => server.listen(0, address, listening));
const issuer = `https://${address}:${server.address().port}`;
answer = provider(issuer);
console.log(issuer);

async function token(resource) {
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id: "agent", client_secret: SECRET, resource });
  const said = await (await fetch(`${issuer}/token`, { method: "POST", body })).json();
  return { token: said.access_token, error: said.error_description };
}

for await (const line of createInterface({ input: process.stdin })) {
  const step = JSON.parse(line);
  if (step.rotate) answer = provider(issuer);
  console.log(JSON.stringify(step.rotate ? { rotated: true } : await token(step.token)));
}
process.exit();
