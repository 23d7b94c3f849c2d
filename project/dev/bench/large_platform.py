"""A platform of many models that costs nearly nothing to ask, as a process of its own: `MODELS BOOKINGS`.

It answers what the limiter reads, from bytes made beforehand, so that a measurement is of the limiter. A tenth of the
models is called; each page shows the calls since the last. It prints its port, and ends with its standard input.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

ENTRYPOINTS = 3
STATUSES = ("200", "429", "500")
BOOKED_BEFORE, SLOT, SLOTS = 1800, 3600, 3  # seconds: every booking's first slot runs, and goes on for half an hour
PAGE_OF_MODELS = 100


def model_name(number: int) -> str:
    return f"Vendor/Model-{number:06d}-Instruct"


def model_id(number: int) -> str:
    return str(UUID(int=0xA0000000000040008000000000000000 + number))


class MetricsPage:
    """One Entrypoint's page: a family of calls with three series a model, and one that must be passed over."""

    def __init__(self, models: int, number: int) -> None:
        self.reads = 0
        self.parts: list[bytes] = []
        self.moving: list[tuple[int, bytes]] = []
        still: list[str] = ["# HELP model_calls_total Calls\n# TYPE model_calls_total counter\n"]
        for model in range(models):
            for status in STATUSES:
                head = f'model_calls_total{{model_name="{model_name(model)}",status="{status}",pod="gw-{number}"}} '
                if model % 10 == 0 and status == "200":
                    self.parts += ["".join(still).encode(), b""]
                    self.moving.append((len(self.parts) - 1, head.encode()))
                    still = []
                else:
                    still.append(f"{head}{1000.0 + model}\n")
        still.append("# TYPE model_calls_created gauge\n")
        for model in range(models):
            for status in STATUSES:
                labels = f'model_name="{model_name(model)}",status="{status}",pod="gw-{number}"'
                still.append(f"model_calls_created{{{labels}}} 1.7640000{model % 97:02d}e+09\n")
        still.append("process_start_time_seconds 1.764e+09\nprocess_cpu_seconds_total ")
        self.parts += ["".join(still).encode(), b""]

    def __call__(self) -> bytes:
        self.reads += 1
        calls = str(1000.0 + 10 * self.reads).encode()
        for place, head in self.moving:
            self.parts[place] = head + calls + b"\n"
        self.parts[-1] = str(self.reads).encode() + b"\n"
        return b"".join(self.parts)


class Platform:
    """Every answer by its path and query."""

    def __init__(self, models: int, bookings: int) -> None:
        self.models, self.bookings = models, bookings
        self.pages = [MetricsPage(models, number) for number in range(ENTRYPOINTS)]
        self.cut: dict[tuple[str, int], bytes] = {}
        self.reservations = [self.reservation(number, int(time.time())) for number in range(bookings)]

    def answer(self, target: str) -> bytes:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if path.startswith("/metrics/"):
            return self.pages[int(path[-1])]()
        if path.endswith("/v2/models/running/find-by"):
            return self._kept("models", int(query["offset"][0]), self.running)
        if path.endswith("/api/v1/reservations"):
            size = int(query["page_size"][0])
            return self._kept("bookings", size * (int(query["page"][0]) - 1), lambda first: self.booked(first, size))
        return b"{}"

    def _kept(self, what: str, first: int, make: Callable[[int], bytes]) -> bytes:
        if (what, first) not in self.cut:
            self.cut[what, first] = make(first)
        return self.cut[what, first]

    def running(self, first: int) -> bytes:
        numbers = range(first, min(first + PAGE_OF_MODELS, self.models))
        items = [self.model(number) for number in numbers]
        return json.dumps({"items": items, "total": self.models, "limit": PAGE_OF_MODELS, "offset": first}).encode()

    def model(self, number: int) -> dict[str, object]:
        name = model_name(number)
        return {
            "id": model_id(number),
            "name": name,
            "type": "llm",
            "status": "RUNNING",
            "deleted": False,
            "hfRepoId": name,
            "configuration": None,
            "endpoints": [{"id": number, "path": "/v1/chat/completions", "description": "Chat"}],
            "instance": {"id": number, "replicas": 1, "ownerId": None, "address": f"http://serving-{number}.example"},
            "storage": {"id": number, "uri": f"s3://weights/{name}", "type": "s3", "revision": "main"},
            "tags": [{"id": 1, "tag": "llm"}, {"id": 2, "tag": "a100"}],
        }

    def booked(self, first: int, size: int) -> bytes:
        items = self.reservations[first : first + size]
        return json.dumps({"items": items, "total": self.bookings, "page": first // size + 1}).encode()

    def reservation(self, number: int, now: int) -> dict[str, object]:
        begin = now - BOOKED_BEFORE
        slots = [
            {"id": f"s{number}-{n}", "start": begin + n * SLOT, "end": begin + (n + 1) * SLOT} for n in range(SLOTS)
        ]
        user = UUID(int=0xB0000000000040008000000000000000 + number)
        return {
            "id": f"reservation-{number}",
            "user": {"id": str(user), "name": f"user{number}"},
            "model_name": model_name(number % self.models),
            "model_id": model_id(number % self.models),
            "status": "active",
            "slots": slots,
        }


class Connection(asyncio.Protocol):
    """HTTP/1.1 with GETs only, kept alive."""

    def __init__(self, platform: Platform) -> None:
        self.platform, self.rest = platform, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            target = self.rest.split(b" ", 2)[1].decode()
            self.rest = self.rest[end + 4 :]
            body = self.platform.answer(target)
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.transport.write(body)


async def serve(models: int, bookings: int) -> None:
    platform = Platform(models, bookings)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(platform), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
