// @modelcontextprotocol/sdk, as most servers use it: the raw handler, stateless, answers as event streams.
// usage: v1.js FILE     each execution becomes a line of FILE; the first line of stdout is the port

import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

import { addTools, serve } from "./tools.js";

serve(async (request, response) => {
  const server = addTools(new McpServer({ name: "typescript-1", version: "0" }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on("close", () => server.close());
  await server.connect(transport);
  await transport.handleRequest(request, response);
});
