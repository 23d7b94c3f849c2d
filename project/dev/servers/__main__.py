"""`python -m dev.servers`: private Postgres, pgbouncer and RabbitMQ, until Ctrl-C or SIGTERM."""

import signal
import sys
from contextlib import suppress

from dev.servers.private_server import ServerFailed
from dev.servers.processes import ServerMissing
from dev.servers.services import Services


def main() -> None:
    """Start all three, print their URLs as environment variables, and keep them until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), Services() as services:
        for name, value in services.environment().items():
            print(f"{name}={value}", flush=True)
        signal.pause()


if __name__ == "__main__":
    try:
        main()
    except (ServerMissing, ServerFailed) as error:
        sys.exit(str(error))
