#!/usr/bin/env bash
# Everything this project needs on a Debian machine: .venv, and the servers the tests and the demo start for themselves.
# Safe to run again at any time: it does what is missing, says each step in a line, and leaves the rest alone. Further
# Debian packages that a target needs are named as arguments.
set -euo pipefail
cd "$(dirname "$0")/../.."

scratch=$(mktemp -d)
policy=/usr/sbin/policy-rc.d # asked by Debian's packages before they start a service
policy_is_ours=

say() { printf 'install: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
may_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

clean_up() {
    if [ -n "$policy_is_ours" ]; then as_root rm -f "$policy"; fi
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in python3 python3.11 python3.12 python3.13; do
        if is_new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    fail "Python 3.11 or newer is needed and none was found (Debian 12 and later: apt-get install python3 python3-venv)"
}

# The Debian packages that are missing, one a line: of the servers, and of the further ones that were asked for by name.
missing_packages() {
    local name
    for name in "$@"; do dpkg --status "$name" >/dev/null 2>&1 || echo "$name"; done
    if ! venv_works && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    fi
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || echo postgresql
    [ -x /usr/sbin/pgbouncer ] || echo pgbouncer
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || echo rabbitmq-server
}

quietly() { # run a command; show what it said only if it fails
    "$@" >"$scratch/log" 2>&1 </dev/null || { tail -n 30 "$scratch/log" >&2; fail "failed: $*"; }
}

# Debian's packages start their servers on the standard ports; we only want the programs. 101 means "not allowed".
forbid_services() {
    [ ! -e "$policy" ] || return 0
    printf '#!/bin/sh\nexit 101\n' >"$scratch/policy"
    policy_is_ours=yes
    as_root install -m 755 "$scratch/policy" "$policy"
}

install_packages() {
    local command="apt-get install --no-install-recommends $*"
    command -v apt-get >/dev/null || fail "these Debian packages are missing and there is no apt-get here: $*"
    may_be_root || fail "these packages are missing; install them as root and run this again: $command"
    say "Debian packages: $*"
    forbid_services
    quietly as_root apt-get -qq update
    quietly as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -qq install --yes --no-install-recommends "$@"
    say "their services were not started (a reboot may start them: this project does not need them, disable at will)"
}

# A venv that was copied or moved with its directory still runs, but its programs install into the old place.
venv_works() {
    is_new_enough .venv/bin/python && .venv/bin/pip --version 2>/dev/null | grep -qF "$(realpath .venv)/"
}

make_venv() {
    if venv_works; then return; fi
    if [ -e .venv ]; then say ".venv is broken or too old: making it again"; else say "making .venv with $python"; fi
    rm -rf .venv
    quietly "$python" -m venv .venv
}

python=$(find_python)
mapfile -t packages < <(missing_packages "$@")
if [ "${#packages[@]}" -gt 0 ]; then install_packages "${packages[@]}"; fi
make_venv
say "Python packages of requirements-dev.txt"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
say "done: .venv, Postgres, pgbouncer and RabbitMQ${*:+, $*} are here"
