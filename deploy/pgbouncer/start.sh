#!/bin/sh
# Writes the list of users that pgbouncer.ini names, from the environment or the file that it names, so that
# the password has one source only.
# pgbouncer needs it in plain text to log in to Postgres with SCRAM; the file lives and dies with the container.
set -eu
umask 077

quoted() { printf '"%s"' "$(printf '%s' "$1" | sed 's/"/""/g')"; }

password=${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:?}")}
printf '%s %s\n' "$(quoted "$POSTGRES_USER")" "$(quoted "$password")" >/tmp/userlist.txt
exec pgbouncer /etc/pgbouncer/pgbouncer.ini
