"""Sends one HTTP POST as it is told, byte for byte, and prints {"status", "headers", "body"} as JSON.

usage: raw.py URL [HEADER: VALUE]…     the body is stdin, and need not be MCP, JSON or text
"""

import http.client
import json
import sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
headers.update(line.split(": ", 1) for line in sys.argv[2:])
connection.request("POST", url.path, sys.stdin.buffer.read(), headers)
answer = connection.getresponse()
print(json.dumps({"status": answer.status, "headers": {name.lower(): value for name, value in answer.getheaders()}, "body": answer.read().decode("utf-8", "replace")}))
