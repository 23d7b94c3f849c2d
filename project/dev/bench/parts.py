"""Single parts of the work, each beside its peer and its limit, in one process and one run."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import httpx
from prometheus_client.parser import text_string_to_metric_families

from dev.bench import writing
from dev.bench.large_platform import MetricsPage, Platform, model_name
from dev.bench.row import Row
from dev.bench.service import platform
from limiter.clients.circuit import Circuit
from limiter.clients.entrypoint import HEADERS
from limiter.clients.http import ServiceClient
from limiter.clients.known_page import SeriesCache
from limiter.clients.label_sets import Family
from limiter.clients.page import PageReader
from limiter.clients.registry import Registry
from limiter.clients.registry_wire import WirePage, WireTaggedEntry
from limiter.clients.transport import Transport
from limiter.config.policy import PolicySettings
from limiter.domain.deciding import decide_fleet
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.folding import fold
from limiter.domain.settled import Settled
from limiter.domain.usage import Memory, ScrapedPage
from limiter.telemetry import Telemetry

MODELS = 10_000
BLOCK = 2**18  # bytes that come from the wire at once
SHARE = 10  # the peer's parser is given one of so many lines, for it takes a quarter of a minute for all
GETS, AT_ONCE = 3_000, 50
FAMILY = Family("model_calls_total", "model_name")


def large_page() -> bytes:
    """57 MB in 450,000 lines, of which 90,000 are of the family."""
    ours = b"".join(MetricsPage(MODELS, number)() for number in range(3)).split(b"\n")
    ours = [line for line in ours if line.startswith(b"model_calls_total{")]
    other = "".join(
        f'http_request_duration_seconds_bucket{{path="/v1/models/{model_name(n % MODELS)}/call",le="{n % 12}"}} {n}\n'
        for n in range(360_000)
    )
    return b"# TYPE model_calls_total counter\n" + b"\n".join(ours) + b"\n" + other.encode()


def spent(work: Callable[[], object], times: int = 3) -> float:
    """The least processor seconds that the work takes."""
    least = float("inf")
    for _ in range(times):
        began = time.process_time()
        work()
        least = min(least, time.process_time() - began)
    return least


def read(page: bytes, cache: SeriesCache) -> None:
    reader = PageReader(cache)
    for start in range(0, len(page), BLOCK):
        reader.feed(page[start : start + BLOCK])
    reader.finish()


def parsing() -> list[Row]:
    """Cold and warm, beside prometheus_client and one search through the page."""
    page = large_page()
    lines = page.split(b"\n")[:-1]
    sample = b"\n".join(lines[::SHARE]).decode() + "\n"
    rival = SHARE * spent(lambda: [family.samples for family in text_string_to_metric_families(sample)], 1)
    limit, cache = spent(lambda: page.find(b"\nno_such_family{"), 9), SeriesCache(FAMILY)
    cold = spent(lambda: read(page, SeriesCache(FAMILY)), 9)
    read(page, cache)
    return [
        Row("parse a page of 57 MB, cold", cold, rival, limit, "at most 25 x"),
        Row("parse it, warm", spent(lambda: read(page, cache), 9), rival, limit, "at most 10 x"),
    ]


async def fetching(url: str) -> list[Row]:
    """A page over HTTP beside a plain socket, and many small answers beside httpx's own transport."""
    path, cache = "/metrics/0", SeriesCache(FAMILY)
    async with httpx.AsyncClient(transport=Transport(None, AT_ONCE), timeout=60, trust_env=False) as client:

        async def page() -> None:
            reader = PageReader(cache)
            async with client.stream("GET", url + path, headers=HEADERS) as response:
                async for chunk in response.aiter_bytes():
                    reader.feed(chunk)
            reader.finish()

        await page()
        ours = min([await _spent(page, time.perf_counter) for _ in range(5)])
        gets = await _spent(lambda: _many(client, url))
        raw = min([await _spent(lambda: asyncio.to_thread(_raw, url, path), time.perf_counter) for _ in range(5)])
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=AT_ONCE), timeout=60, trust_env=False) as plain:
        rival = await _spent(lambda: _many(plain, url))
    return [
        Row("fetch and parse a page of 6 MB (wall time)", ours, None, raw, "at most 6 x"),
        Row(f"{GETS} GETs, {AT_ONCE} at once", gets, rival, None, "at most 1/5"),
    ]


async def _spent(work: Callable[[], Awaitable[None]], clock: Callable[[], float] = time.process_time) -> float:
    began = clock()
    await work()
    return clock() - began


async def _many(client: httpx.AsyncClient, url: str) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await client.get(f"{url}/v2/models/running/find-by?offset={100 * (number % 10)}&limit=100")

    await asyncio.gather(*map(one, range(GETS)))


def _raw(url: str, path: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = connection.recv(BLOCK)
        length = int(head.split(b"Content-Length: ")[1].split(b"\r")[0])
        got = len(head) - head.index(b"\r\n\r\n") - 4
        while got < length:
            got += len(connection.recv(BLOCK))


def decoding() -> Row:
    """The registry's pages for the first time."""
    source = Platform(MODELS, 0)
    pages = [source.running(first) for first in range(0, MODELS, 100)]

    service = ServiceClient("registry", "", httpx.AsyncClient(), Telemetry(), 1, 1, 1, 1, Circuit(1, 1))

    def ours() -> None:
        registry = Registry(service, 100, ["a100"])
        for page in pages:
            assert registry.sound(page) is not None

    def rival() -> None:
        for page in pages:
            for item in WirePage.model_validate(json.loads(page)).items:
                WireTaggedEntry.model_validate(item)

    return Row("decode 10,000 models of the registry", spent(ours), spent(rival), None, "at most 1/2")


def deciding() -> Row:
    """A tick's decisions, a tenth of the models called."""
    models = tuple(ServedModel(UUID(int=n + 1), model_name(n), 1) for n in range(MODELS))
    fleet, policy, begin = Fleet(models), PolicySettings().policy(), datetime(2026, 3, 2, tzinfo=UTC)
    names, memory, states = {model.name: model.name for model in models}, Memory(), dict[UUID, ScalingState]()
    settled = Settled(policy, fleet, states, frozenset(names))
    for tick in range(25):
        now = begin + timedelta(seconds=15 * tick)
        counters = {model.name: float(3 * tick if n % 10 == 0 else 1) for n, model in enumerate(models)}
        observation = fold(memory, [ScrapedPage("a", now, counters, names)], names.keys(), now, policy.window)
        decide = partial(decide_fleet, policy, fleet, observation, states, {}, now, before=settled)
        made = decide()
        memory, states = observation.memory, states | {state.model_id: state for state in made.scaling_states()}
        settled = Settled(policy, fleet, states, made.unsettled)
    return Row(
        "decide for 10,000 models",
        spent(decide),
        bar="at most 30 ms",
    )


def rows() -> list[Row]:
    """Every part."""
    with platform(MODELS, 0) as url:
        fetched = asyncio.run(fetching(url))
    return [*parsing(), *fetched, decoding(), deciding(), *asyncio.run(writing.measured())]
