#!/bin/sh
# Makes what compose needs and the repository does not have: secrets/, and for the demo .env. Safe to run again.
#
#   deploy/prepare.sh          for the platform that .env names
#   deploy/prepare.sh demo     for the stand-in platform, .env included
#
# A password is made at random where there is none; write your own into its file in secrets/ and run this again. Postgres
# and RabbitMQ take a password only when their volume is new. BOOKING_SERVICE_TOKEN comes from .env, or from its file in
# secrets/ where .env leaves it empty.
set -eu
cd "$(dirname "$0")/.."
made='# Made by deploy/prepare.sh demo, and again at each run.'

fail() { printf 'prepare: %s\n' "$*" >&2; exit 1; }

write() { # NAME VALUE
    # The containers' users are not the owner: they may read the files, and nobody else gets into the directory.
    [ -f "secrets/$1" ] && [ "$(cat "secrets/$1")" = "$2" ] || printf '%s\n' "$2" >"secrets/$1"
    chmod 644 "secrets/$1"
}

password() { # NAME: the one that is there, else a new one
    [ -s "secrets/$1" ] || write "$1" "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
    value=$(cat "secrets/$1")
    case $value in
        *[!A-Za-z0-9._~-]*) fail "secrets/$1 becomes part of a URL: letters, digits and . _ ~ - only" ;;
    esac
    write "$1" "$value"
    printf '%s' "$value"
}

if [ "${1:-}" = demo ]; then
    [ ! -f .env ] || [ "$(head -n 1 .env)" = "$made" ] || fail "there is a .env of your own: move it away for the demo"
    # The profile in .env serves the commands that follow: docker compose ps, exec, down.
    { echo "$made"; cat example.env deploy/demo.env; echo COMPOSE_PROFILES=demo; } >.env
elif [ ! -f .env ]; then
    fail "there is no .env: cp example.env .env, and set what is marked REQUIRED (or: make up-demo)"
fi

mkdir -p secrets
chmod 700 secrets
postgres=$(password postgres_password)
rabbitmq=$(password rabbitmq_password)
password grafana_password >/dev/null
write database_url "postgresql+asyncpg://rps_limiter:$postgres@pgbouncer:6432/rps_limiter"
write migrations_database_url "postgresql+asyncpg://rps_limiter:$postgres@postgres/rps_limiter"
write rabbitmq_url "amqp://rps_limiter:$rabbitmq@rabbitmq:5672/"
write rabbitmq_login "default_user = rps_limiter
default_pass = $rabbitmq"
# Compose understands a value with a space, such as a calendar, and a shell takes the rest of it for a command: no matter.
token=$(set +eu; unset BOOKING_SERVICE_TOKEN; . ./.env 2>/dev/null; printf '%s' "${BOOKING_SERVICE_TOKEN:-}") \
    || fail "a shell cannot read .env: JSON, and what has a quote or a bracket, stands in single quotes"
token=$(printf '%s' "$token" | tr -d '\r') # of the line ends of Windows, which compose leaves out too
[ -z "$token" ] && [ -f secrets/booking_service_token ] || write booking_service_token "$token"
