// An MCP client of the official TypeScript SDK that does what it is told, within one session.
// Its argument, input and output are those of ../python/steps.py.

import { createInterface } from "node:readline";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { McpError } from "@modelcontextprotocol/sdk/types.js";

const print = (value) => console.log(JSON.stringify(value));

async function step(client, what) {
  if (what === "list") return { tools: (await client.listTools()).tools.map((tool) => tool.name) };
  const [, name, args] = what.match(/^([^=]*)=?(.*)$/s);
  try {
    const result = await client.callTool({ name, arguments: JSON.parse(args || "{}") });
    return { text: result.content.map((part) => part.text ?? "").join("\n"), isError: Boolean(result.isError), meta: result._meta ?? {} };
  } catch (error) {
    if (error instanceof McpError) return { error: { code: error.code, message: error.message } };
    throw error;
  }
}

const client = new Client({ name: "mcp-policy-e2e", version: "0" });
const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]));
await client.connect(transport);
print({ protocol: transport.protocolVersion, session: transport.sessionId });
for await (const what of createInterface({ input: process.stdin })) print(await step(client, what));
await client.close();
