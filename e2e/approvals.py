"""An agent whose calls wait for a person, the person, and a clock.

usage: approvals.py wait API NAMESPACE COUNT              makes so many approvals of other calls that wait, as whoever API speaks for
       approvals.py time API NAMESPACE URL USER COUNT     times so many calls of each kind; USER is who decides

API is where `kubectl proxy` offers the API server. `time` prints a line of JSON: of each kind the median and the 99th percentile in
milliseconds. "allowed" calls pass, "asking" calls find that a person is asked already, "retried" is the time from the moment in which the
decision is sent to the end of the first call that passes, and "held" the same for a call that is held open meanwhile.
"""

import hashlib
import http.client
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

API, NAMESPACE = urlsplit(sys.argv[2]), sys.argv[3]
APPROVALS = f"/apis/mcp-policy.dev/v1alpha1/namespaces/{NAMESPACE}/mcpapprovals"
WRITERS = 8
# As many as may wait: of one caller, and under one policy.
OF_CALLER, OF_POLICY = 20, 200
local = threading.local()


def api(method, path, body=None, kind="application/json"):
    """What the API server answers, over a connection of this thread's own."""
    if not hasattr(local, "api"):
        local.api = http.client.HTTPConnection(API.hostname, API.port, timeout=60)
    local.api.request(method, path, body and json.dumps(body), {"content-type": kind})
    answer = local.api.getresponse()
    text = answer.read().decode()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {text}")
    return json.loads(text)


def make(number):
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    expires = datetime.now(timezone.utc) + timedelta(hours=6)
    policy = {"namespace": NAMESPACE, "name": f"policy-{number // OF_POLICY}", "generation": 1, "rule": "/tools/delete_image_set/action"}
    spec = {
        "caller": f"serviceaccount:{NAMESPACE}/agent-{number // OF_CALLER}", "server": "Deployment/healthimaging-mcp", "tool": "delete_image_set",
        "arguments": {"sha256": digest, "keys": ["image_set_id"]}, "policy": policy, "reason": "Deleted is gone.", "approvers": 1,
        "expiresAt": expires.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    api("POST", APPROVALS, {"apiVersion": "mcp-policy.dev/v1alpha1", "kind": "McpApproval", "metadata": {"name": f"{digest[:20]}-1"}, "spec": spec})


class Agent:
    def __init__(self, url):
        self.url, self.id, self.session = urlsplit(url), 0, {}
        self.connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
        client = {"name": "approvals", "version": "1"}
        headers, _ = self.post("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        self.session = {"mcp-session-id": headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        self.post("notifications/initialized", {}, notification=True)

    def post(self, method, params, notification=False):
        self.id += 1
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if notification else {"id": self.id})
        headers = {"host": "localhost", "accept": "application/json, text/event-stream", "content-type": "application/json"}
        self.connection.request("POST", self.url.path, json.dumps(message), headers | self.session)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        data = [line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip()]
        return answer.headers, None if notification else json.loads(data[-1] if data else text)

    def call(self, tool, arguments):
        """The refusal of a call; none if it passed."""
        _, answer = self.post("tools/call", {"name": tool, "arguments": arguments})
        denial = answer.get("result", {}).get("_meta", {}).get("mcp-policy.dev/denial")
        if denial and denial["code"] != "approval_required":
            sys.exit(f"{tool}: {denial}")
        return denial


def approve(name, user):
    decision = {"verdict": "Approved", "by": user}
    api("PATCH", f"{APPROVALS}/{name}", {"spec": {"decisions": [decision]}}, "application/merge-patch+json")


def timed(what, *arguments):
    began = time.monotonic()
    return what(*arguments), time.monotonic() - began


def retried(agent, user, number):
    image = {"image_set_id": f"retried-{number}"}
    name = agent.call("delete_image_set", image)["approval"]["name"]
    began = time.monotonic()
    approve(name, user)
    while agent.call("delete_image_set", image):
        pass
    return time.monotonic() - began


class Person:
    """Says yes to whatever is asked from now on about the tool whose calls are held open."""

    def __init__(self, user):
        since = api("GET", f"{APPROVALS}?limit=1")["metadata"]["resourceVersion"]
        connection = http.client.HTTPConnection(API.hostname, API.port, timeout=600)
        connection.request("GET", f"{APPROVALS}?watch=true&resourceVersion={since}")
        self.lines, self.user, self.decided = connection.getresponse(), user, None
        threading.Thread(target=self.decide, daemon=True).start()

    def decide(self):
        for line in self.lines:
            event = json.loads(line)
            if event["type"] == "ADDED" and event["object"]["spec"]["tool"] == "start_dicom_export_job":
                self.decided = time.monotonic()
                approve(event["object"]["metadata"]["name"], self.user)


def held(agent, person, number):
    if agent.call("start_dicom_export_job", {"datastore_id": "d-radiology", "bucket": f"held-{number}"}):
        sys.exit("a call that is held open did not pass")
    return time.monotonic() - person.decided


def quantiles(times):
    times = sorted(times)
    return {"p50": round(times[len(times) // 2] * 1000, 1), "p99": round(times[min(len(times) - 1, len(times) * 99 // 100)] * 1000, 1)}


if sys.argv[1] == "wait":
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(make, range(int(sys.argv[4]))))
else:
    agent, user, count = Agent(sys.argv[4]), sys.argv[5], int(sys.argv[6])
    person, same = Person(user), {"image_set_id": "asked-about"}
    if not agent.call("delete_image_set", same) or agent.call("list_datastores", {}):
        sys.exit("the policies are others")
    told = {
        "allowed": [timed(agent.call, "list_datastores", {})[1] for _ in range(10 * count)],
        "asking": [timed(agent.call, "delete_image_set", same)[1] for _ in range(count)],
        "retried": [retried(agent, user, number) for number in range(count)],
        "held": [held(agent, person, number) for number in range(count)],
    }
    print(json.dumps({kind: quantiles(times) for kind, times in told.items()}))
