"""An agent that exports too much: what a policy looks like from the other side.

Written with the official Python SDK (pip install mcp==2.3.0). usage: agent.py http://127.0.0.1:8080/mcp
"""

import asyncio
import sys

from mcp import Client

DENIAL = "mcp-policy.dev/denial"
EXPORT = {"datastore_id": "d-radiology", "bucket": "research"}


def told(result):
    """What the agent learns from a tool's result, on one line."""
    text = " ".join(part.text for part in result.content if part.type == "text")
    if not result.is_error:
        return f"passed    {text}"
    denial = (result.meta or {}).get(DENIAL, {})
    seconds = denial.get("retryAfterSeconds")
    wait = "" if seconds is None else f", retry after {seconds} s"
    return f"refused   {denial.get('code')}{wait}\n{'':36}the model is told: {text}"


async def main(url):
    async with Client(url) as agent:
        tools = [tool.name for tool in (await agent.list_tools()).tools]
        print(f"tools that the agent can see: {', '.join(tools)}")
        for number in range(1, 12):
            result = await agent.call_tool("start_dicom_export_job", EXPORT)
            print(f"{number:2}  {'start_dicom_export_job':30}  {told(result)}")
        result = await agent.call_tool("delete_image_set", {"image_set_id": "i-0001"})
        print(f"12  {'delete_image_set':30}  {told(result)}")


asyncio.run(main(sys.argv[1]))
