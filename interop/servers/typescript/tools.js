// The tools that the servers of every SDK have. Each writes down that it ran, and with which arguments, before it answers.

import { appendFileSync } from "node:fs";
import { createServer } from "node:http";

import { z } from "zod";

const anything = z.looseObject({});
const region = z.looseObject({ region: z.string().optional().meta({ "x-mcp-header": "Region" }) });

export function addTools(server) {
  for (const [name, inputSchema] of [["safe", anything], ["danger", anything], ["echo", anything], ["region", region]]) {
    server.registerTool(name, { inputSchema }, (args) => {
      const text = JSON.stringify(args);
      appendFileSync(process.argv[2], `${JSON.stringify({ tool: name, arguments: text })}\n`);
      return { content: [{ type: "text", text }] };
    });
  }
  return server;
}

// Listens on loopback and prints the port. Anything but the endpoint does not exist.
export function serve(handle) {
  const server = createServer((request, response) => {
    if (new URL(request.url, "http://localhost").pathname === "/mcp") return handle(request, response);
    response.writeHead(404).end();
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
}
