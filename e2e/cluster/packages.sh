# shellcheck shell=bash
# What the node needs from the distribution. Installed where that is possible without asking, listed where it is not.

# One line each: the file or command that proves it, and Debian's package.
needed_packages() {
    cat <<'E2'
containerd containerd
runc runc
/usr/lib/cni/bridge containernetworking-plugins
nft nftables
iptables iptables
conntrack conntrack
busybox busybox-static
redis-check-rdb redis-tools
ip iproute2
nsenter util-linux
sysctl procps
openssl openssl
gcc gcc
/usr/include/stdlib.h libc6-dev
python3 python3
E2
}

missing_packages() {
    local proof package
    while read -r proof package; do
        case $proof in
            /*) [ -e "$proof" ] || echo "$package" ;;
            *) command -v "$proof" >/dev/null || [ -x "/usr/sbin/$proof" ] || echo "$package" ;;
        esac
    done < <(needed_packages)
}

ensure_packages() {
    local missing; missing=$(missing_packages | tr '\n' ' ')
    [ -z "$missing" ] && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "this machine lacks: $missing
       (names of Debian packages). Install them, or run this as root on Debian or Ubuntu to have them installed."
    fi
    say "${BOLD}Installing what the node needs:${PLAIN} $missing"
    run_logged 'apt-get update' "$CACHE/log/apt-update.log" apt-get -q update || die "apt-get update failed"
    # Without recommendations: they would start services that nobody asked for.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive run_logged 'apt-get install' "$CACHE/log/apt-install.log" apt-get -q install -y --no-install-recommends $missing ||
        die "apt-get install failed"
}
