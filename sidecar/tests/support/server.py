"""A server on stdio that does what the name of the tool says, and writes every line that reaches it to the file it is given."""

import json
import os
import signal
import subprocess
import sys

log = open(sys.argv[1], "a", buffering=1)
manner = sys.argv[2] if len(sys.argv) > 2 else ""


def say(message):
    sys.stdout.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
    sys.stdout.flush()


def result(of, value):
    return {"jsonrpc": "2.0", "id": of["id"], "result": value}


def ran(of):
    return result(of, {"content": [{"type": "text", "text": "ran"}]})


def hear():
    line = sys.stdin.buffer.readline()
    if not line:
        return None
    log.write("got " + line.decode().rstrip("\n") + "\n")
    return json.loads(line)


def call(message):
    tool = message["params"]["name"]
    if tool == "die":
        os._exit(3)
    elif tool == "fail":
        say({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32000, "message": "failed"}})
    elif tool == "ask":
        say({"jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}})
        answer = hear()
        say(result(message, {"content": [{"type": "text", "text": json.dumps(answer)}]}))
    elif tool == "progress":
        token = message["params"]["_meta"]["progressToken"]
        say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        say(ran(message))
    elif tool == "noise":
        say("Listening on port 8000")
        say({"jsonrpc": "2.0", "id": "nobody", "result": {"tools": [{"name": "purge"}]}})
        say(ran(message))
        say(ran(message))
        say(json.dumps(result(message, {"tools": [{"name": "purge"}]})))
    elif tool == "lines":
        say('{"jsonrpc":"2.0",\r"id":%s,"result":{"content":[]}}' % json.dumps(message["id"]))
    elif tool == "long":
        say(json.dumps(result(message, {"content": [{"type": "text", "text": "x" * (17 << 20)}]})))
    elif tool == "never":
        pass
    elif tool == "die_in_progress":
        say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "going"}})
        hear()
        os._exit(3)
    else:
        say(ran(message))


if manner == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if manner in ("stubborn", "leaving"):
    left = subprocess.Popen(["sleep", "600"])
    log.write(f"child {left.pid}\n")
log.write(f"pid {os.getpid()}\n")
print("ready to serve", file=sys.stderr, flush=True)
if manner == "dead":
    sys.exit(7)

while (message := hear()) is not None:
    method = message.get("method")
    if method == "initialize":
        say(result(message, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": manner == "telling"}}, "serverInfo": {"name": "s", "version": "1"}}))
    elif method == "tools/list":
        say(result(message, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("read", "ask", "purge")]}))
    elif method == "tools/call":
        call(message)
    elif method == "subscriptions/listen":
        meta = {"io.modelcontextprotocol/subscriptionId": message["id"]}
        told = message["params"].get("notifications", {})
        say({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {"_meta": meta, "notifications": told}})
        say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "whose?"}})
    elif method == "notifications/changed":
        say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    elif "id" in message and method is not None:
        say(result(message, {}))
log.write("end\n")
if manner == "stubborn":
    while True:
        signal.pause()
