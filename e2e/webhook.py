"""Mutating webhooks as other products have them, served over HTTPS on a free port of 127.0.0.1, which is printed.

usage: webhook.py CERTIFICATE KEY

/mesh      puts a native sidecar before everybody else's init containers, and a volume before everybody else's volumes
/defaults  gives each container of the app a variable and limits, and the pod a toleration
/mirror    takes every image from a mirror, also those of mcp-policy
"""

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VARIABLE = {"name": "NEIGHBOUR", "value": "was here"}


def mesh(pod):
    spec = pod["spec"]
    init, volumes = spec.setdefault("initContainers", []), spec.setdefault("volumes", [])
    if not any(container["name"] == "mesh" for container in init):
        image = spec["containers"][0]["image"]
        command = ["sh", "-c", "trap exit TERM; sleep 3600 & wait"]
        mounts = [{"name": "mesh", "mountPath": "/mesh"}]
        init.insert(0, {"name": "mesh", "image": image, "command": command, "restartPolicy": "Always", "volumeMounts": mounts})
        volumes.insert(0, {"name": "mesh", "emptyDir": {}})


def add_variable(container):
    if VARIABLE not in container.setdefault("env", []):
        container["env"].append(VARIABLE)


def defaults(pod):
    for container in pod["spec"]["containers"]:
        add_variable(container)
        container.setdefault("resources", {}).setdefault("limits", {}).setdefault("memory", "32Mi")
    tolerations, ours = pod["spec"].setdefault("tolerations", []), {"key": "neighbour", "operator": "Exists"}
    if ours not in tolerations:
        tolerations.append(ours)


def mirror(pod):
    for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]:
        container["image"] = "mirror.example.org/" + container["image"].removeprefix("mirror.example.org/")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
        pod, before = request["object"], json.dumps(request["object"]["spec"])
        {"/mesh": mesh, "/defaults": defaults, "/mirror": mirror}[self.path.split("?")[0]](pod)
        response = {"uid": request["uid"], "allowed": True}
        if json.dumps(pod["spec"]) != before:
            patch = json.dumps([{"op": "replace", "path": "/spec", "value": pod["spec"]}])
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
