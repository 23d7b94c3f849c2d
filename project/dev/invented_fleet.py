"""The platform as the demo serves it: a small invented fleet with traffic, and reservations around now."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from dev.neighbours.booking import TOKEN
from dev.platform import Platform

HOUR = 3600
ANNA = ("5b0d8f0e-6b55-4c0a-9f5e-0f6a4f1c2a01", "anna")
BORIS = ("5b0d8f0e-6b55-4c0a-9f5e-0f6a4f1c2a02", "boris")

BUSY = "Sber/GigaChat-Max-V2"
QUIET = "Openai/Gpt-oss-120b"
UNUSED = "Google/Medgemma-27b-it"


def furnish(platform: Platform, now: float) -> None:
    """One model too small for its traffic, one too large, and one that was booked and is not called."""
    busy = platform.add_model(BUSY, replicas=1)
    quiet = platform.add_model(QUIET, replicas=4)
    unused = platform.add_model(UNUSED, replicas=1)
    platform.set_rate(BUSY, 42)
    platform.set_rate(QUIET, 3)
    platform.call(UNUSED, 31)
    start = now - 2 * HOUR
    day = [(start + place * 4 * HOUR, start + (place + 1) * 4 * HOUR) for place in range(6)]
    platform.add_reservation(*ANNA, BUSY, day, busy.id)
    platform.add_reservation(*BORIS, QUIET, day[:2], quiet.id)
    platform.add_reservation(*ANNA, UNUSED, day[:3], unused.id)
    platform.add_reservation(*BORIS, UNUSED, day[4:], unused.id)


async def serve(host: str, port: int, token: str) -> None:
    """Serve it until SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Platform(host=host, port=port, token=token) as platform:
        furnish(platform, time.time())
        for name, value in platform.environment().items():
            print(f"{name}={value}", flush=True)
        await ended.wait()


def main() -> None:
    """Serve at PLATFORM_HOST and PLATFORM_PORT; cancelling takes the BOOKING_SERVICE_TOKEN."""
    host = os.environ.get("PLATFORM_HOST", "127.0.0.1")
    port = int(os.environ.get("PLATFORM_PORT", "8090"))
    asyncio.run(serve(host, port, os.environ.get("BOOKING_SERVICE_TOKEN") or TOKEN))


if __name__ == "__main__":
    main()
