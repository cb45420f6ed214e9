"""An MCP client of the official Python SDK that does what it is told, within one session.

usage: steps.py URL     each line of stdin is a step: `list`, or a tool's name, or a tool's name and arguments: `pods_get={"name": "a"}`

The first line of stdout tells the protocol version. Each step then prints one line: {"tools": [names]}; {"text", "isError", "meta"} of a
tool's result; {"error": {"code", "message"}} where the answer was a JSON-RPC error. Runs on both major lines of the SDK.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

try:
    from mcp import Client, MCPError

    @asynccontextmanager
    async def connect(url):
        async with Client(url) as client:
            yield client, client.protocol_version

except ImportError:
    from mcp import ClientSession, McpError as MCPError
    from mcp.client.streamable_http import streamable_http_client

    @asynccontextmanager
    async def connect(url):
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            yield session, (await session.initialize()).protocolVersion


async def step(client, what):
    if what == "list":
        return {"tools": [tool.name for tool in (await client.list_tools()).tools]}
    name, _, arguments = what.partition("=")
    try:
        result = (await client.call_tool(name, json.loads(arguments or "{}"))).model_dump(mode="json", by_alias=True)
    except MCPError as error:
        return {"error": {"code": error.error.code, "message": error.error.message}}
    text = "\n".join(part.get("text", "") for part in result["content"])
    return {"text": text, "isError": bool(result.get("isError")), "meta": result.get("_meta") or {}}


async def main(url):
    async with connect(url) as (client, version):
        print(json.dumps({"protocol": version}), flush=True)
        while what := (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n"):
            print(json.dumps(await step(client, what)), flush=True)


asyncio.run(main(sys.argv[1]))
