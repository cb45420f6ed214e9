# shellcheck shell=bash
# The binaries of the cluster and of its tests, built from Go modules into a cache. Each folder of the cache carries its version, so a
# new version is built beside the old one and nothing is ever stale.

KUBERNETES=v1.34.4 ETCD=v3.6.16 COREDNS=v1.13.1 HELM=v3.22.0 PROMETHEUS=v3.16.0 CRANE=v0.22.1
CACHE=${MCP_POLICY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mcp-policy}

# NAME -> the folder of its version
tool_folder() {
    case $1 in
        kube*) echo "$CACHE/kubernetes-$KUBERNETES" ;;
        etcd) echo "$CACHE/etcd-$ETCD" ;;
        coredns) echo "$CACHE/coredns-$COREDNS" ;;
        helm) echo "$CACHE/helm-$HELM" ;;
        prometheus | promtool) echo "$CACHE/prometheus-$PROMETHEUS" ;;
        crane) echo "$CACHE/crane-$CRANE" ;;
        *) die "no tool is called $1" ;;
    esac
}

PATH=$(for tool in kubectl etcd coredns helm prometheus crane; do printf '%s:' "$(tool_folder "$tool")"; done)$PATH
export PATH

CLUSTER_TOOLS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns helm)
TEST_TOOLS=(prometheus promtool)

# tools NAME…: builds those that the cache lacks.
tools() {
    local tool missing=()
    for tool in "$@"; do [ -x "$(tool_folder "$tool")/$tool" ] || missing+=("$tool"); done
    [ ${#missing[@]} = 0 ] && return
    command -v go >/dev/null || die "Go is not installed; it builds ${missing[*]}"
    mkdir -p "$CACHE"
    # Two builds at once would write the same files: the second waits, and then finds its work done.
    exec 8>"$CACHE/build.lock"
    flock -n 8 || { say "Another build is running; waiting for it."; flock 8; }
    say "${BOLD}Building from source, once:${PLAIN} ${missing[*]} (all of them take about 10 minutes on two cores; then they are in $CACHE)"
    for tool in "${missing[@]}"; do
        [ -x "$(tool_folder "$tool")/$tool" ] && continue
        run_logged "$tool $(basename "$(tool_folder "$tool")" | sed 's/.*-//')" "$CACHE/log/build-$tool.log" build_tool "$tool" ||
            die "$tool was not built; run the same command again to go on from here"
    done
    exec 8>&-
}

build_tool() {
    local tool=$1 out; out=$(tool_folder "$tool")
    mkdir -p "$out"
    export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'
    local stamp=k8s.io/component-base/version
    case $tool in
        kube*) module kubernetes "k8s.io/kubernetes/cmd/$tool" \
            -ldflags "-s -w -X $stamp.gitVersion=$KUBERNETES -X $stamp.gitMajor=1 -X $stamp.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES")" ;;
        etcd) module etcd go.etcd.io/etcd/server/v3 -ldflags '-s -w' ;;
        # Of service discovery only what finds pods; its other kinds are most of the code.
        prometheus | promtool) module prometheus "github.com/prometheus/prometheus/cmd/$tool" -tags remove_all_sd,enable_kubernetes_sd \
            -ldflags "-s -w -X github.com/prometheus/common/version.Version=${PROMETHEUS#v}" ;;
        coredns) install_module "github.com/coredns/coredns@$COREDNS" ;;
        helm) install_module "helm.sh/helm/v3/cmd/helm@$HELM" ;;
        crane) install_module "github.com/google/go-containerregistry/cmd/crane@$CRANE" ;;
    esac
}

# Under another name first: a build that is cut short leaves nothing that looks whole.
module() {   # FOLDER PACKAGE FLAGS…
    local folder=$1 package=$2; shift 2
    (cd "$HERE/$folder" && nice go build "$@" -o "$out/.$tool" "$package") && mv "$out/.$tool" "$out/$tool"
}
install_module() {   # PACKAGE@VERSION
    local scratch; scratch=$(mktemp -d)
    GOBIN=$scratch nice go install -ldflags '-s -w' "$1" && mv "$scratch/$tool" "$out/$tool" && rmdir "$scratch"
}

# base_images: the archives of the node's own images, and of those that the tests run beside the product.
base_images() {
    mkdir -p "$CACHE/images"
    base_image pause --entrypoint /pause --user 65535:65535
    base_image coredns --entrypoint /coredns
    base_image prometheus --entrypoint /prometheus --user 65534:65534
    base_image busybox --cmd sh
    base_image redis
    base_image etcd --cmd sh
}

base_image() {   # NAME ARGS…
    local name=$1; shift
    local archive=$CACHE/images/$name-1.tar
    [ -e "$archive" ] && return
    local root; root=$(mktemp -d); mkdir -p "$root/tmp"; chmod 1777 "$root/tmp"
    case $name in
        pause) gcc -static -Os -s -o "$root/pause" "$HERE/pause.c" ;;
        coredns | prometheus) cp "$(tool_folder "$name")/$name" "$root/" ;;
        # Of etcd the tests want a server that speaks gRPC and TLS, and a shell that starts and stops it.
        busybox | etcd)
                 mkdir "$root/bin"; cp "$(command -v busybox)" "$root/bin/"
                 [ "$name" = busybox ] || cp "$(tool_folder etcd)/etcd" "$root/bin/"
                 local applet; for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done ;;
        # Redis' server and its checker are one program, that looks at its name. Valkey's name, so that a manifest for Valkey fits.
        redis) mkdir "$root/bin"; cp "$(command -v redis-check-rdb)" "$root/bin/valkey-server"
               local library; while read -r library; do install -D "$library" "$root$library"; done < <(ldd "$root/bin/valkey-server" | grep -o '/[^ ]*') ;;
    esac
    python3 "$HERE/image.py" "registry.local/$name:1" "$root" "$archive.new" "$@" && mv "$archive.new" "$archive"
    rm -rf "$root"
}
