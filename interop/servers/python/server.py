"""A server of the official Python SDK, of either major line: stateless, answers as JSON.

usage: server.py FILE [sse]     each execution becomes a line of FILE; the first line of stdout is the port. With `sse`, the first line of
                                the SDK speaks HTTP+SSE of 2024-11-05
"""

import asyncio
import contextlib
import json
import socket
import sys

import uvicorn
from mcp.server.lowlevel import Server
from mcp.types import CallToolResult, TextContent, Tool

ANYTHING = {"type": "object"}
REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
TOOLS = {"safe": ANYTHING, "danger": ANYTHING, "echo": ANYTHING, "region": REGION}


def run(tool, arguments):
    text = json.dumps(arguments)
    with open(sys.argv[1], "a") as executions:
        executions.write(json.dumps({"tool": tool, "arguments": text}) + "\n")
    return [TextContent(type="text", text=text)]


def first_line():
    """1.x: handlers by decorator, transport by hand."""
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.routing import Route

    server = Server("python-1")

    @server.list_tools()
    async def list_tools():
        return [Tool(name=name, inputSchema=schema) for name, schema in TOOLS.items()]

    @server.call_tool()
    async def call_tool(name, arguments):
        if name not in TOOLS:
            raise ValueError(f"Unknown tool: {name}")
        return run(name, arguments)

    if sys.argv[2:] == ["sse"]:
        return with_event_stream(server)

    # What FastMCP, which most servers use, sets on loopback.
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=["127.0.0.1:*", "localhost:*", "[::1]:*"],
        allowed_origins=["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"],
    )
    manager = StreamableHTTPSessionManager(app=server, json_response=True, stateless=True, security_settings=security)

    class Endpoint:
        async def __call__(self, scope, receive, send):
            await manager.handle_request(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with manager.run():
            yield

    return Starlette(routes=[Route("/mcp", endpoint=Endpoint())], lifespan=lifespan)


def with_event_stream(server):
    from mcp.server.sse import SseServerTransport
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Mount, Route

    transport = SseServerTransport("/messages/")

    async def stream(request):
        async with transport.connect_sse(request.scope, request.receive, request._send) as (read, write):
            await server.run(read, write, server.create_initialization_options())
        return Response()

    return Starlette(routes=[Route("/sse", endpoint=stream), Mount("/messages/", app=transport.handle_post_message)])


def second_line():
    """2.x: handlers by argument, both eras."""
    from mcp.types import ListToolsResult

    async def list_tools(context, params):
        return ListToolsResult(tools=[Tool(name=name, input_schema=schema) for name, schema in TOOLS.items()])

    async def call_tool(context, params):
        if params.name not in TOOLS:
            return CallToolResult(content=[TextContent(type="text", text=f"Unknown tool: {params.name}")], is_error=True)
        return CallToolResult(content=run(params.name, params.arguments))

    server = Server("python-2", on_list_tools=list_tools, on_call_tool=call_tool, get_tool_input_schema=TOOLS.get)
    return server.streamable_http_app(json_response=True, stateless_http=True)


async def main():
    app = first_line() if hasattr(Server, "call_tool") else second_line()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
