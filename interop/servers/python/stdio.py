"""A server on stdio, of the first line of the official Python SDK, which knows no revision after 2025-11-25."""

from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

server = FastMCP("first line")


class Name(BaseModel):
    name: str


@server.tool()
async def count(context: Context) -> str:
    await context.report_progress(1, 2)
    return "counted"


@server.tool()
async def greet(context: Context) -> str:
    answer = await context.elicit("Who are you?", Name)
    return f"Hello {answer.data.name}"


@server.tool()
def purge() -> str:
    return "purged"


server.run()
