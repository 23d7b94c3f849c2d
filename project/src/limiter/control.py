"""Messages in: commands by hand, and the platform's own announcements, from which addresses are learned.

Both queues are acknowledged by hand, after the work is committed; a message that cannot be understood goes to the
queue's dead-letter queue once, and is never put back to be refused again.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self, cast
from uuid import UUID

from faststream import AckPolicy
from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from faststream.rabbit.schemas.queue import ClassicQueueArgs
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.clients.http import Storable, explain
from limiter.db import contacts, decisions
from limiter.db.engine import DATABASE_ERRORS
from limiter.db.engine import explain as explain_database
from limiter.db.locks import Locks, RunState
from limiter.domain.action import Job
from limiter.domain.audit import explained
from limiter.schedule import Timetable
from limiter.telemetry import Telemetry

MAX_REPLY_ECHO = 200  # characters of a refused message's request_id that are sent back

Outcome = Literal["completed", "failed", "busy", "rejected", "paused", "resumed"]


class ControlMessage(BaseModel):
    """A command by hand."""

    model_config = ConfigDict(extra="forbid")

    command: Literal["run_job", "pause_job", "resume_job", "explain"]
    job: Job | None = None
    model: Storable | None = None
    request_id: str | None = None

    @model_validator(mode="after")
    def _what_it_is_about(self) -> Self:
        wanted, unwanted = ("model", "job") if self.command == "explain" else ("job", "model")
        if getattr(self, wanted) is None:
            raise ValueError(f"{self.command} needs a {wanted}")
        if getattr(self, unwanted) is not None:
            raise ValueError(f"{self.command} takes no {unwanted}")
        return self


class Reply(BaseModel):
    """The one answer to a control message that names a `reply_to`."""

    request_id: str | None
    command: str | None
    job: str | None
    outcome: Outcome
    run_id: str | None = None
    detail: str | None = None


class Deployed(BaseModel):
    """The platform's announcement that booked models run, which carries the user's address."""

    user_id: UUID
    user_name: Storable
    user_email: str = Field(pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")
    model_ids: list[UUID] = Field(default_factory=list)
    reservation_ids: list[Storable] = Field(default_factory=list)


@dataclass(frozen=True)
class Queues:
    """Where messages come from."""

    control: str
    deployed: str
    deployed_key: str
    exchange: RabbitExchange

    def dead(self, name: str) -> RabbitQueue:
        return RabbitQueue(f"{name}.dead", durable=True)

    def live(self, name: str, routing_key: str = "") -> RabbitQueue:
        """A durable queue whose rejected messages go to its dead-letter queue."""
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}.dead"}
        return RabbitQueue(name, durable=True, arguments=cast(ClassicQueueArgs, dead), routing_key=routing_key)


class Control:
    """Carries out commands by hand and answers each exactly once."""

    def __init__(
        self,
        broker: RabbitBroker,
        timetable: Timetable,
        locks: Locks,
        clock: Callable[[], datetime],
        patience: float,
        explained: int,
    ) -> None:
        self._broker = broker
        self._timetable = timetable
        self._locks = locks
        self._clock = clock
        self._patience = patience
        self._explained = explained

    async def handle(self, body: bytes, message: RabbitMessage) -> None:
        if self._timetable.draining:
            return  # left unacknowledged: when our channel closes in a moment, another replica gets it
        try:
            asked = ControlMessage.model_validate_json(body)
        except ValidationError as error:
            logger.bind(event="control_rejected").warning("control message: {}", explain(error))
            await message.reject(requeue=False)
            await self._answer(message, _rejected(body, explain(error)))
            return
        with logger.contextualize(request_id=asked.request_id):
            reply = await self._carry_out(asked)
            logger.bind(event="control", outcome=reply.outcome).info("{} {}", asked.command, asked.job or asked.model)
        await message.ack()
        await self._answer(message, reply)

    async def _carry_out(self, asked: ControlMessage) -> Reply:
        reply = Reply(request_id=asked.request_id, command=asked.command, job=asked.job, outcome="failed")
        try:
            if asked.model is not None:
                return await self._explain(asked.model, reply)
            assert asked.job is not None  # the message's own rule
            if asked.command == "run_job":
                return await self._run(asked.job, reply)
            if asked.command == "pause_job":
                await self._locks.pause(asked.job)
                return reply.model_copy(update={"outcome": "paused"})
            await self._locks.resume(asked.job, self._clock())
            return reply.model_copy(update={"outcome": "resumed"})
        except DATABASE_ERRORS as error:
            return reply.model_copy(update={"detail": f"database: {explain_database(error)}"})

    async def _run(self, job: Job, reply: Reply) -> Reply:
        report = await self._timetable.by_hand(job, self._patience)
        if report is None:
            detail = f"another run of {job} held the lock for {self._patience:g} s"
            return reply.model_copy(update={"outcome": "busy", "detail": detail})
        outcome = "completed" if report.state is RunState.COMPLETED else "failed"
        return reply.model_copy(update={"outcome": outcome, "run_id": report.run_id, "detail": report.detail})

    async def _explain(self, model: str, reply: Reply) -> Reply:
        async with self._locks.engine.connect() as connection:
            findings = await decisions.of_model(connection, model, self._explained)
        if not findings:
            return reply.model_copy(update={"detail": f"nothing was ever decided about a model named {model!r}"})
        return reply.model_copy(update={"outcome": "completed", "detail": explained(findings)})

    async def _answer(self, message: RabbitMessage, reply: Reply) -> None:
        if message.reply_to:
            await self._broker.publish(
                reply.model_dump(mode="json"),
                queue=message.reply_to,
                correlation_id=message.raw_message.correlation_id,
                content_type="application/json",
            )


def _rejected(body: bytes, why: str) -> Reply:
    """The refusal, with as much of the request as could be read."""
    try:
        sent: Any = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    echo = {
        name: sent[name][:MAX_REPLY_ECHO].encode(errors="replace").decode()  # a lone surrogate cannot be sent
        for name in ("request_id", "command", "job")
        if isinstance(sent, dict) and isinstance(sent.get(name), str)
    }
    nothing: dict[str, Any] = {"request_id": None, "command": None, "job": None}
    return Reply.model_validate(nothing | echo | {"outcome": "rejected", "detail": why})


class Announcements:
    """Learns addresses; a message is acknowledged once its address is committed, however long that takes."""

    def __init__(self, engine: AsyncEngine, telemetry: Telemetry, retry: float) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._retry = retry
        self._in_order = asyncio.Lock()  # messages are handed over side by side: of two addresses the later must stay

    async def handle(self, body: bytes, message: RabbitMessage) -> None:
        try:
            told = Deployed.model_validate_json(body)
        except ValidationError as error:
            self._telemetry.critical("announcement_rejected", explain(error))
            await message.reject(requeue=False)
            return
        started = [(reservation, model) for reservation in told.reservation_ids for model in told.model_ids]
        async with self._in_order:
            await self._learn(told, started)
        await message.ack()
        logger.bind(event="address_learned", user_id=str(told.user_id)).info("address of {} learned", told.user_name)

    async def _learn(self, told: Deployed, started: list[tuple[str, UUID]]) -> None:
        while True:
            try:
                return await contacts.learn(self._engine, told.user_id, told.user_name, told.user_email, started)
            except DATABASE_ERRORS as error:
                self._telemetry.critical("database_unavailable", f"{explain_database(error)}: address not yet learned")
                await asyncio.sleep(self._retry)


async def _raw(message: RabbitMessage) -> bytes:
    """Leave the body as it came: what cannot be decoded must be answered too, not only refused."""
    return bytes(message.body)


def subscribe(broker: RabbitBroker, queues: Queues, control: Control, announcements: Announcements) -> None:
    """Attach the handlers to their queues; call before the broker starts."""

    async def on_control(body: bytes, message: RabbitMessage) -> None:
        await control.handle(body, message)

    async def on_deployed(body: bytes, message: RabbitMessage) -> None:
        await announcements.handle(body, message)

    manual: dict[str, Any] = {"ack_policy": AckPolicy.MANUAL, "decoder": _raw, "no_reply": True}
    broker.subscriber(queues.live(queues.control), **manual)(on_control)
    deployed = queues.live(queues.deployed, queues.deployed_key)
    broker.subscriber(deployed, queues.exchange, **manual)(on_deployed)


async def declare(broker: RabbitBroker, queues: Queues) -> None:
    """Make sure that nothing can be lost before anything is consumed."""
    await broker.declare_exchange(queues.exchange)
    for name in (queues.control, queues.deployed):
        await broker.declare_queue(queues.dead(name))
