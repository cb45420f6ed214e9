# shellcheck shell=bash
# What the scripts of this folder share: which cluster is meant, and where images come from.
#
# KUBECONFIG   set: that cluster is used; not set: the embedded one
# IMAGES       a registry and prefix that the cluster can pull from, as in `registry.example.com/me`; the images are pushed there.
#              Needed with KUBECONFIG, unless the images of this version are where the manifests name them
# HOST_ADDRESS an address of this machine that pods reach, where a test runs a server for them; not set: that of the embedded cluster's node

E2E=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
TOP=$(dirname "$E2E")
HERE=$E2E/cluster
# shellcheck source=cluster/say.sh
. "$HERE/say.sh"
# shellcheck source=cluster/tools.sh
. "$HERE/tools.sh"

PUBLISHED=ghcr.io/mcp-policy
embedded() { [ -z "${KUBECONFIG:-}" ]; }

# in_cluster COMMAND…: where the API server and, in the embedded cluster, everything else can be reached.
in_cluster() { if embedded; then "$E2E/cluster/cluster" exec "$@"; else command "$@"; fi; }
kubectl() { in_cluster kubectl "$@"; }

# manifests FILE…: as they are, but with the images that this cluster can have.
manifests() {
    local file
    for file in "$@"; do echo ---; cat "$file"; done |
        if embedded; then cat; else sed -e "s#$PUBLISHED/#${IMAGES:-$PUBLISHED}/#" -e "s#registry.local/prometheus:1#prom/prometheus:$PROMETHEUS#"; fi
}

# shown COMMAND…: the command as somebody would type it.
shown() { if embedded; then echo "e2e/cluster/cluster exec $*"; else echo "$*"; fi; }
