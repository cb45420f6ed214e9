"""Agents that call a server all the while, each in a session with an open stream of its own, until stdin ends.

usage: sessions.py URL SESSIONS ALLOWED DENIED     two tools: one that the policy allows, one that it denies by default

Prints a line once every session has its stream and an answer, and at the end one line of JSON: how many calls were "allowed" and
"denied" as they should be, how many "sessions" and "streams" there were; and what went wrong: answers that are "wrong", calls that were
sent and are "lost", streams that were "torn" within an event, connections that were "refused".
"""

import http.client
import json
import random
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

URL, SESSIONS, ALLOWED, DENIED = urlsplit(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
VERSION = "2025-11-25"
PAUSE = 0.1  # between the calls of one agent, on the average
counts, faults, lock, stop = Counter(), {"wrong": [], "lost": [], "torn": [], "refused": []}, threading.Lock(), threading.Event()
busy = set()


def count(what):
    with lock:
        counts[what] += 1


def fault(kind, what):
    with lock:
        faults[kind].append(f"{time.time():.3f} {what}")


class Gone(Exception):
    """The server does not know the session any more, or the connection is over."""


class Agent:
    def __init__(self, number):
        self.number, self.connection, self.session, self.id = number, None, None, 0

    def connect(self):
        connection = http.client.HTTPConnection(URL.hostname, URL.port, timeout=30)
        try:
            connection.connect()
        except OSError as error:
            fault("refused", error)
            time.sleep(PAUSE)
            raise Gone from error
        return connection

    def headers(self):
        # Servers admit the names that they know, against DNS rebinding; the address of a Service is none.
        headers = {"host": "localhost", "accept": "application/json, text/event-stream", "content-type": "application/json"}
        return headers | ({"mcp-session-id": self.session, "mcp-protocol-version": VERSION} if self.session else {})

    def post(self, method, params, notification=False):
        """The JSON-RPC answer, and the headers that came with it."""
        self.id += 1
        self.connection = self.connection or self.connect()
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if notification else {"id": self.id})
        try:
            self.connection.request("POST", URL.path, json.dumps(message), self.headers())
            response = self.connection.getresponse()
            body = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            fault("lost", f"{method} of {self.number}: {error!r}")
            self.connection = None
            raise Gone from error
        if response.will_close:
            self.connection = None
        if response.status == 404 and self.session:
            self.session = None
            raise Gone
        if notification:
            return None, response.headers
        data = [line[5:] for line in body.splitlines() if line.startswith("data:")]
        messages = [json.loads(text) for text in (data or [body]) if text.strip()] if response.status == 200 else []
        answers = [message for message in messages if message.get("id") == self.id]
        if len(answers) != 1:
            fault("wrong", f"{method} of {self.number}: {response.status} {body[:500]!r}")
            raise Gone
        return answers[0], response.headers

    def open(self):
        client = {"name": "sessions", "version": "1"}
        _, headers = self.post("initialize", {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client})
        self.session = headers["mcp-session-id"]
        self.post("notifications/initialized", {}, notification=True)
        count("sessions")
        threading.Thread(target=self.listen, args=[self.session], daemon=True).start()

    def listen(self, session):
        """Follows the session's stream to its end, again and again while the session lasts."""
        while not stop.is_set() and self.session == session:
            try:
                connection = self.connect()
                connection.request("GET", URL.path, headers=self.headers())
                response = connection.getresponse()
                if response.status != 200:
                    time.sleep(PAUSE)
                    continue
                count("streams")
                with lock:
                    busy.add(self.number)
                text = response.read()
                if text and not text.endswith(b"\n\n"):
                    fault("torn", text[-100:])
            except http.client.IncompleteRead as error:
                if error.partial and not error.partial.endswith(b"\n\n"):
                    fault("torn", error.partial[-100:])
            except (OSError, http.client.HTTPException, Gone):
                pass

    def call(self, tool):
        answer, _ = self.post("tools/call", {"name": tool, "arguments": {}})
        result = answer.get("result", {})
        code = result.get("_meta", {}).get("mcp-policy.dev/denial", {}).get("code")
        if (tool == ALLOWED and result.get("isError") is False) or (tool == DENIED and code == "default_deny"):
            count("allowed" if tool == ALLOWED else "denied")
        else:
            fault("wrong", f"{tool}: {json.dumps(answer)[:500]}")

    def run(self):
        while not stop.is_set():
            try:
                if not self.session:
                    self.open()
                self.call(random.choice([ALLOWED, DENIED]))
            except Gone:
                continue
            stop.wait(random.uniform(0, 2 * PAUSE))


agents = [threading.Thread(target=Agent(number).run) for number in range(SESSIONS)]
for agent in agents:
    agent.start()
while len(busy) < SESSIONS or counts["allowed"] + counts["denied"] < SESSIONS:
    time.sleep(PAUSE)
print("ready", flush=True)
sys.stdin.read()
stop.set()
for agent in agents:
    agent.join()
print(json.dumps(dict(counts) | faults), flush=True)
