"""An MCP client in Python that does what it is told, within one session: of the official SDK, of either line, or of FastMCP, whichever
is installed.

usage: agent.py URL     each line of stdin is a step: {"list": true}, or {"call": tool, "arguments": {…}}, with "cancel": true to cancel
                        the call once it reports progress

The first line of stdout tells the protocol version. Each step then prints one line: {"tools": [names]}; {"text", "isError", "meta",
"progress": […]} of a tool's result; {"error": {"code", "message"}} where the answer was a JSON-RPC error; {"cancelled": true}. "raised"
names the exception that a user of the client gets, "pages" the URLs to which the user was sent meanwhile, or is by the error. What the server
asks is answered with ANSWER. A token in the environment, as BEARER, is sent with every request.
"""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from importlib.util import find_spec

from mcp import types
from mcp.shared._httpx_utils import create_mcp_http_client

BEARER = os.environ.get("BEARER")
ANSWER = "Ada"


PAGES = []


def is_page(params):
    if getattr(params, "mode", None) != "url":
        return False
    PAGES.append(params.url)
    return True


async def elicited(context, params):
    if is_page(params):
        return types.ElicitResult(action="accept")
    return types.ElicitResult(action="accept", content={"name": ANSWER})


async def sampled(context, params):
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text=ANSWER), model="none")


HANDLERS = {"elicitation_callback": elicited, "sampling_callback": sampled}


async def withdraw(client):
    """Giving up the wait cancels."""


def http_client():
    return create_mcp_http_client(headers={"Authorization": f"Bearer {BEARER}"}) if BEARER else None


class ToolError(Exception):
    """The official SDK raises none."""


if find_spec("fastmcp"):
    from fastmcp import Client
    from fastmcp.exceptions import MCPError, ToolError

    async def elicited(message, response_type, params, context):
        return None if is_page(params) else {"name": ANSWER}

    async def sampled(messages, params, context):
        return ANSWER

    @asynccontextmanager
    async def connect(url):
        async with Client(url, auth=BEARER, elicitation_handler=elicited, sampling_handler=sampled) as client:
            yield client, client.protocol_version

    async def list_tools(client):
        return await client.list_tools()

    async def call_tool(client, name, arguments, report):
        result = await client.call_tool(name, arguments, progress_handler=report)
        return result.content, result.is_error, result.meta

elif find_spec("mcp_types"):
    from mcp import Client, MCPError
    from mcp.client.streamable_http import streamable_http_client

    @asynccontextmanager
    async def connect(url):
        async with Client(streamable_http_client(url, http_client=http_client()) if BEARER else url, **HANDLERS) as client:
            yield client, client.protocol_version

    async def list_tools(client):
        return (await client.list_tools()).tools

    async def call_tool(client, name, arguments, report):
        result = await client.call_tool(name, arguments, progress_callback=report)
        return result.content, result.is_error, result.meta

else:
    from mcp import ClientSession, McpError as MCPError
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    @asynccontextmanager
    async def connect(url):
        transport = sse_client(url) if url.endswith("/sse") else streamable_http_client(url, http_client=http_client())
        async with transport as (read, write, *_), ClientSession(read, write, **HANDLERS) as session:
            yield session, (await session.initialize()).protocolVersion

    async def list_tools(session):
        return (await session.list_tools()).tools

    async def call_tool(session, name, arguments, report):
        result = await session.call_tool(name, arguments, progress_callback=report)
        return result.content, result.isError, result.meta

    async def withdraw(session):
        """This line of the SDK leaves it to its user to say so. The last id given is that of the call."""
        cancelled = types.CancelledNotification(params=types.CancelledNotificationParams(requestId=session._request_id - 1))
        await session.send_notification(types.ClientNotification(cancelled))


async def step(client, what):
    if "list" in what:
        return {"tools": [tool.name for tool in await list_tools(client)]}
    progress, reported = [], asyncio.Event()
    PAGES.clear()

    async def report(done, total, message):
        progress.append(done)
        reported.set()

    call = asyncio.create_task(call_tool(client, what["call"], what.get("arguments", {}), report))
    if what.get("cancel"):
        await reported.wait()
        await withdraw(client)
        call.cancel()
        await asyncio.wait([call])
        return {"cancelled": call.cancelled()}
    try:
        content, is_error, meta = await call
    except MCPError as error:
        pages = [page["url"] for page in (error.error.data or {}).get("elicitations", [])]
        told = {"code": error.error.code, "message": error.error.message}
        return {"error": told, "raised": type(error).__name__, "pages": PAGES + pages}
    except ToolError as error:
        return {"text": str(error), "isError": True, "raised": type(error).__name__, "pages": PAGES}
    text = "\n".join(getattr(part, "text", "") for part in content)
    return {"text": text, "isError": bool(is_error), "meta": meta or {}, "progress": progress, "pages": PAGES}


async def main(url):
    async with connect(url) as (client, version):
        print(json.dumps({"protocol": version}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await step(client, json.loads(line))), flush=True)


asyncio.run(main(sys.argv[1]))
