"""`python -m dev.fake_platform`: the sample fleet, served until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from dev.fake_platform.booking import TOKEN
from dev.fake_platform.platform import Platform
from dev.fake_platform.sample_fleet import add_sample_fleet


async def serve(host: str, port: int, token: str) -> None:
    """Serve it until SIGTERM or Ctrl-C; prints the environment variables that a replica needs."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Platform(host=host, port=port, token=token) as platform:
        add_sample_fleet(platform, time.time())
        for name, value in platform.environment().items():
            print(f"{name}={value}", flush=True)
        await ended.wait()


def main() -> None:
    """Serve at PLATFORM_HOST and PLATFORM_PORT; deleting requires BOOKING_SERVICE_TOKEN."""
    host = os.environ.get("PLATFORM_HOST", "127.0.0.1")
    port = int(os.environ.get("PLATFORM_PORT", "8090"))
    asyncio.run(serve(host, port, os.environ.get("BOOKING_SERVICE_TOKEN") or TOKEN))


if __name__ == "__main__":
    main()
