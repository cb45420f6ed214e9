"""Opens an event stream by GET, and prints the status, then `end` when it is over.

usage: stream.py URL [HEADER: VALUE]…
"""

import http.client
import sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname, url.port)
connection.request("GET", url.path, headers={"accept": "text/event-stream", **dict(line.split(": ", 1) for line in sys.argv[2:])})
answer = connection.getresponse()
print(answer.status, flush=True)
try:
    while answer.read1():
        pass
except (http.client.HTTPException, OSError):
    pass  # Cut off is over too.
print("end", flush=True)
