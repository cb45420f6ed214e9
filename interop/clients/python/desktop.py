"""The official Python SDK, of either line, as a desktop client: it starts the server, and speaks to it on its standard input and output.

usage: desktop.py COMMAND ARG…     steps and answers are those of agent.py
"""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from importlib.util import find_spec

from mcp import ClientSession, StdioServerParameters

if find_spec("mcp_types"):
    from mcp import Client

    @asynccontextmanager
    async def connect(server):
        async with Client(server) as client:
            yield client, client.protocol_version

else:
    from mcp.client.stdio import stdio_client

    @asynccontextmanager
    async def connect(server):
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            yield session, (await session.initialize()).protocolVersion


async def step(client, what):
    if "list" in what:
        return {"tools": [tool.name for tool in (await client.list_tools()).tools]}
    result = (await client.call_tool(what["call"], what.get("arguments", {}))).model_dump(by_alias=True)
    text = "\n".join(part.get("text", "") for part in result["content"])
    return {"text": text, "isError": bool(result["isError"]), "meta": result["_meta"] or {}}


async def main(command, *arguments):
    async with connect(StdioServerParameters(command=command, args=list(arguments), env=dict(os.environ))) as (client, version):
        print(json.dumps({"protocol": version}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await step(client, json.loads(line))), flush=True)


asyncio.run(main(*sys.argv[1:]))
