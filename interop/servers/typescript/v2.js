// @modelcontextprotocol/server: both eras, stateless.
// usage: v2.js FILE     each execution becomes a line of FILE; the first line of stdout is the port

import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";

import { addTools, serve } from "./tools.js";

serve(toNodeHandler(createMcpHandler(() => addTools(new McpServer({ name: "typescript-2", version: "0" })))));
