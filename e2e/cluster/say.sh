# shellcheck shell=bash
# How the scripts of this folder talk: plain lines, colours only on a terminal, the end of the log when something fails.

if [ -t 1 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' GREEN='' PLAIN=''; fi

say() { echo "$*"; }
warn() { echo "${RED}$*${PLAIN}" >&2; }
die() { warn "error: $*"; exit 1; }

# run_logged WHAT LOG COMMAND…: one line when it begins, the seconds when it is done, the end of the log if it fails.
run_logged() {
    local what=$1 log=$2 began=$SECONDS; shift 2
    mkdir -p "$(dirname "$log")"
    printf '  %-34s ' "$what"
    if "$@" >"$log" 2>&1; then
        echo "${GREEN}done${PLAIN} ${DIM}$((SECONDS - began)) s${PLAIN}"
    else
        echo "${RED}failed${PLAIN} after $((SECONDS - began)) s"
        warn "the last lines of $log:"
        tail -n 15 "$log" | sed 's/^/    /' >&2
        return 1
    fi
}
