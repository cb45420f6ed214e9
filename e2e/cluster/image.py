#!/usr/bin/env python3
"""Pack a root folder as a one-layer OCI image archive that `ctr images import` takes.
usage: image.py NAME:TAG ROOTFS OUT.tar [--user UID:GID] [--entrypoint A --entrypoint B] [--cmd C] [--env K=V]"""
import argparse, gzip, hashlib, io, json, os, tarfile
p = argparse.ArgumentParser()
p.add_argument('name'); p.add_argument('rootfs'); p.add_argument('out')
p.add_argument('--user', default=''); p.add_argument('--entrypoint', action='append', default=[])
p.add_argument('--cmd', action='append', default=[]); p.add_argument('--env', action='append', default=[])
a = p.parse_args()
raw = io.BytesIO()
with tarfile.open(fileobj=raw, mode='w', format=tarfile.PAX_FORMAT) as t:
    def norm(ti):
        ti.uid = ti.gid = 0; ti.uname = ti.gname = 'root'; ti.mtime = 0
        return ti
    for name in sorted(os.listdir(a.rootfs)):
        t.add(os.path.join(a.rootfs, name), name, filter=norm)
raw = raw.getvalue(); layer = gzip.compress(raw, 1, mtime=0)
sha = lambda b: 'sha256:' + hashlib.sha256(b).hexdigest()
config = json.dumps({'architecture': 'amd64', 'os': 'linux',
    'config': {'User': a.user, 'Entrypoint': a.entrypoint or None, 'Cmd': a.cmd or None,
               'Env': ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'] + a.env},
    'rootfs': {'type': 'layers', 'diff_ids': [sha(raw)]}}).encode()
manifest = json.dumps({'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json',
    'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', 'digest': sha(config), 'size': len(config)},
    'layers': [{'mediaType': 'application/vnd.oci.image.layer.v1.tar+gzip', 'digest': sha(layer), 'size': len(layer)}]}).encode()
index = json.dumps({'schemaVersion': 2, 'manifests': [{'mediaType': 'application/vnd.oci.image.manifest.v1+json',
    'digest': sha(manifest), 'size': len(manifest), 'annotations': {'io.containerd.image.name': a.name, 'org.opencontainers.image.ref.name': a.name}}]}).encode()
with tarfile.open(a.out, 'w') as t:
    def put(path, data):
        ti = tarfile.TarInfo(path); ti.size = len(data); ti.mode = 0o644
        t.addfile(ti, io.BytesIO(data))
    put('oci-layout', b'{"imageLayoutVersion":"1.0.0"}')
    for b in (config, layer, manifest): put('blobs/sha256/' + hashlib.sha256(b).hexdigest(), b)
    put('index.json', index)
