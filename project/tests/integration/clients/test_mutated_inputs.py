"""100,000 mutated inputs through the code that reads them: each is refused or understood, none crashes or hangs.

What is understood goes on into the code behind: what Postgres cannot store, or arithmetic not bear, was not understood.
"""

import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from loguru import logger

from limiter.api.announcements import Announcements
from limiter.api.control import Control
from limiter.api.handlers import Handlers
from limiter.clients.booking import Booking
from limiter.clients.circuit import Circuit
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.errors import ServiceError
from limiter.clients.http import ServiceClient
from limiter.clients.label_sets import Family
from limiter.clients.registry import Registry
from limiter.db import contacts
from limiter.domain.active_bookings import slots_by_user
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.folding import fold
from limiter.domain.reservations import other_users_claim
from limiter.domain.usage import Memory, ScrapedPage
from limiter.runner.claim import RunReport, RunState
from limiter.telemetry import Telemetry
from tests.integration.clients.mutations import (
    BOOKING,
    CONTROL,
    DEPLOYED,
    IDS,
    MODELS,
    NOW,
    PAGES,
    REGISTRY,
    mutated_bytes,
    mutated_json,
    mutated_page,
)

EACH = int(os.environ.get("MUTATED_INPUTS", "4000"))  # of each of the five kinds; the long form has 20,000
SLOWEST = 2.0  # seconds that one input may take; thousands of times the usual, and still no hang


class Wire(httpx.AsyncBaseTransport):
    """Answers the next request with `body`, and further ones, for pages that a wrong total announces, with 500."""

    body: bytes | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body, self.body = self.body, None
        return httpx.Response(500) if body is None else httpx.Response(200, content=body)


@dataclass
class Summary:
    """What became of the inputs of one kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    async def take(self, body: bytes, read: Callable[[bytes], Awaitable[str]]) -> None:
        started = time.perf_counter()
        try:
            outcome = await read(body)
        except Exception as error:
            raise AssertionError(f"{self.kind}: {type(error).__name__}: {error} on {body[:2000]!r}") from error
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, time.perf_counter() - started)

    def judge(self) -> None:
        shown = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        print(f"\n{self.kind}: {self.outcomes.total()} inputs: {shown}; slowest {self.slowest * 1000:.1f} ms", end="")
        assert self.outcomes.total() == EACH
        assert self.outcomes["understood"] > EACH / 100, "the mutations leave nothing that is understood"
        assert self.outcomes["understood"] < EACH, "the mutations spoil nothing"
        assert self.slowest < SLOWEST


async def run(
    kind: str, examples: list[bytes], shape: Callable[..., bytes], read: Callable[[bytes], Awaitable[str]]
) -> None:
    dice, summary = random.Random(kind), Summary(kind)
    for _ in range(EACH):
        example = dice.choice(examples)
        body = shape(dice, example) if dice.random() < 0.6 else mutated_bytes(dice, example, examples)
        await summary.take(body, read)
    summary.judge()


def storable(*texts: str) -> None:
    """Postgres takes no NUL, and the driver no lone surrogate."""
    for text in texts:
        assert "\x00" not in text, text
        text.encode()


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """A line for each refused input would be all that this test does."""
    logger.disable("limiter")
    yield
    logger.enable("limiter")


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def client(wire: Wire) -> AsyncIterator[ServiceClient]:
    async with httpx.AsyncClient(transport=wire) as http:
        yield ServiceClient("service", "http://service", http, Telemetry(), 5.0, 1, 0.001, 4, Circuit(10**9, 1.0))


async def test_registry_pages(wire: Wire, client: ServiceClient) -> None:
    registry = Registry(client, 100)

    async def read(body: bytes) -> str:
        wire.body = body
        try:
            fleet = await registry.running()
        except ServiceError as error:
            return type(error).__name__
        for model in fleet.models:
            storable(model.name)
            assert 0 <= model.replicas < 2**31
        assert all(total < 2**40 for total in fleet.replicas_by_name.values())
        return "understood" if fleet.complete else "understood in part"

    await run("registry", REGISTRY, mutated_json, read)


async def test_booking_pages(wire: Wire, client: ServiceClient) -> None:
    booking = Booking(client, 1000, timedelta(days=1))
    fleet = Fleet(tuple(ServedModel(UUID(id), name, 1) for id, name in zip(IDS, MODELS, strict=False)))

    async def read(body: bytes) -> str:
        wire.body = body
        try:
            bookings = await booking.bookings(NOW)
        except ServiceError as error:
            return type(error).__name__
        for slots in slots_by_user(fleet, bookings, lambda name: timedelta(minutes=5)).values():
            active = slots.at(NOW)
            storable(active.user.name, active.model.name, *(slot.id + slot.reservation_id for slot in active.slots))
            other_users_claim(active.model, active.user.id, bookings, timedelta(minutes=30), NOW)
        return "understood in part" if bookings.unreadable else "understood"

    await run("booking", BOOKING, mutated_json, read)


async def test_metric_pages(wire: Wire, client: ServiceClient) -> None:
    gauge = Family("model_requests_in_flight", "model_name")
    entrypoint = Entrypoint([client], Family("model_calls_total", "model_name"), lambda: NOW, gauge, timedelta(0))
    good = ScrapedPage(client.url, NOW, {"s": 5.0}, {"s": MODELS[0]})

    async def read(body: bytes) -> str:
        wire.body = body
        (scrape,) = await entrypoint.scrape()
        memory = Memory()
        for place, reading in enumerate((good, scrape, good, scrape)):
            at = NOW + timedelta(seconds=15 * place)
            observed = fold(memory, [reading], frozenset(MODELS), at, timedelta(minutes=5))
            memory = observed.memory
            for name, used in memory.usage.items():
                storable(name)
                assert used.last_used_at <= at
                assert 0 <= observed.rate(name, timedelta(minutes=1)) < math.inf
        for target in memory.targets.values():
            storable(*target.counters, *target.names.values())
            assert all(0 <= value < math.inf for value in (*target.counters.values(), target.rate))
        if isinstance(scrape, ScrapedPage):
            return "understood in part" if scrape.unreadable else "understood"
        return scrape.reason

    await run("metrics", PAGES, mutated_page, read)


class Message:
    """A message as the handlers use it: answered once, and acknowledged or rejected once."""

    def __init__(self) -> None:
        self.reply_to = "answers"
        self.raw_message = SimpleNamespace(reply_to="answers", correlation_id="c", user_id=None, message_id=None)
        self.ended: list[str] = []

    async def ack(self) -> None:
        self.ended.append("understood")

    async def reject(self, *, requeue: bool) -> None:
        assert not requeue
        self.ended.append("rejected")


class Parts:
    """What a control message reaches when it is understood, and where the answers go."""

    draining = False
    skewed = False

    def __init__(self) -> None:
        self.answers: list[Any] = []

    async def run_manually(self, job: object, patience: float) -> RunReport:
        return RunReport("run", RunState.COMPLETED)

    async def pause(self, job: object, by: str | None = None, reason: str | None = None) -> None: ...

    async def resume(self, job: object, at: datetime) -> None: ...

    async def publish(self, message: Any, *to: object, **options: object) -> None:
        self.answers.append(message)


async def test_control_messages() -> None:
    parts = cast(Any, Parts())
    handlers = Handlers(
        engine=parts,
        scheduler=parts,
        table=parts,
        closing=parts,
        clock=lambda: NOW,
        patience=1.0,
        most_changes=10,
        longest_keep=timedelta(days=7),
        status_reader=parts,
    )
    handler = Control(broker=parts, handlers=handlers)

    async def read(body: bytes) -> str:
        message = Message()
        parts.answers.clear()
        await handler.handle(body, cast(Any, message))
        (answer,), (ended,) = parts.answers, message.ended
        reply = answer if isinstance(answer, dict) else answer.model_dump(mode="json")
        json.dumps(reply, ensure_ascii=False).encode()
        assert reply.keys() == {"request_id", "command", "job", "outcome", "run_id", "detail"}
        assert (reply["outcome"] == "rejected") == (ended == "rejected")
        return ended

    await run("control", CONTROL, mutated_json, read)


async def test_deployed_events(monkeypatch: pytest.MonkeyPatch) -> None:
    async def learn(_: object, user: UUID, name: str, email: str, started: list[tuple[str, UUID]]) -> None:
        storable(name, email, *(reservation for reservation, _ in started))

    monkeypatch.setattr(contacts, "learn", learn)
    handler = Announcements(cast(Any, None), Telemetry(), 1.0)

    async def read(body: bytes) -> str:
        message = Message()
        await handler.handle(body, cast(Any, message))
        (ended,) = message.ended
        return ended

    await run("deployed", DEPLOYED, mutated_json, read)
