// An MCP client of the official TypeScript SDK that does what it is told, within one session.
//
// usage: typescript.js 1|2|2-auto URL     the line of the SDK; with 2-auto it looks for the newest revision first
//
// Input and output are those of python/agent.py, and so is BEARER.

import { createInterface } from "node:readline";

const [line, url] = process.argv.slice(2);
const ANSWER = "Ada";
const bearer = process.env.BEARER;
const options = bearer ? { requestInit: { headers: { Authorization: `Bearer ${bearer}` } } } : {};
const info = { name: "agent", version: "0" };
const capabilities = { elicitation: { form: {}, url: {} }, sampling: {} };
const pages = [];
const elicited = ({ params }) => {
  if (params.mode !== "url") return { action: "accept", content: { name: ANSWER } };
  pages.push(params.url);
  return { action: "accept" };
};
const sampled = () => ({ role: "assistant", content: { type: "text", text: ANSWER }, model: "none" });

async function first() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const { CallToolResultSchema, CreateMessageRequestSchema, ElicitRequestSchema, McpError } = await import("@modelcontextprotocol/sdk/types.js");
  const client = new Client(info, { capabilities });
  client.setRequestHandler(ElicitRequestSchema, elicited);
  client.setRequestHandler(CreateMessageRequestSchema, sampled);
  const transport = new StreamableHTTPClientTransport(new URL(url), options);
  await client.connect(transport);
  const call = (params, options) => client.callTool(params, CallToolResultSchema, options);
  return { client, call, protocol: transport.protocolVersion, ProtocolError: McpError };
}

async function second() {
  const { Client, ProtocolError, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const client = new Client(info, { capabilities, ...(line === "2-auto" && { versionNegotiation: { mode: "auto" } }) });
  client.setRequestHandler("elicitation/create", elicited);
  client.setRequestHandler("sampling/createMessage", sampled);
  await client.connect(new StreamableHTTPClientTransport(new URL(url), options));
  const call = (params, options) => client.callTool(params, options);
  return { client, call, protocol: client.getNegotiatedProtocolVersion(), ProtocolError };
}

const print = (value) => console.log(JSON.stringify(value));
const { client, call, protocol, ProtocolError } = await (line === "1" ? first() : second());

async function step(what) {
  if (what.list) return { tools: (await client.listTools()).tools.map((tool) => tool.name) };
  const progress = [];
  pages.length = 0;
  const cancelling = new AbortController();
  const onprogress = ({ progress: done }) => {
    progress.push(done);
    if (what.cancel) cancelling.abort();
  };
  try {
    const result = await call({ name: what.call, arguments: what.arguments ?? {} }, { onprogress, signal: cancelling.signal });
    const text = result.content.map((part) => part.text ?? "").join("\n");
    return { text, isError: Boolean(result.isError), meta: result._meta ?? {}, progress, pages };
  } catch (error) {
    if (cancelling.signal.aborted) return { cancelled: true };
    if (error instanceof ProtocolError) {
      for (const page of error.data?.elicitations ?? []) pages.push(page.url);
      return { error: { code: error.code, message: error.message }, raised: error.constructor.name, pages };
    }
    throw error;
  }
}

print({ protocol });
for await (const what of createInterface({ input: process.stdin })) print(await step(JSON.parse(what)));
await client.close();
