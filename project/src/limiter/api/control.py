"""Commands by hand: each is carried out, acknowledged once its work is committed, and answered exactly once.

A message that cannot be understood goes to the dead-letter queue once, and is never put back to be refused again.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from faststream.rabbit import RabbitBroker, RabbitMessage
from loguru import logger
from pydantic import ValidationError

from limiter.api.messages import ControlMessage, Reply
from limiter.clients.http import describe_validation
from limiter.db import decisions
from limiter.db.engine import DATABASE_ERRORS, describe
from limiter.domain.audit import explanation
from limiter.domain.job import Job
from limiter.runner.claims import JobTable, RunState
from limiter.runner.scheduler import JobScheduler

MAX_REPLY_ECHO = 200  # characters of a refused message's request_id that are sent back


class Control:
    """Carries out commands by hand."""

    def __init__(
        self,
        *,
        broker: RabbitBroker,
        scheduler: JobScheduler,
        table: JobTable,
        clock: Callable[[], datetime],
        patience: float,
        most_changes: int,
    ) -> None:
        """`patience` is the seconds to wait for a job's lock, `most_changes` how many changes an explanation lists."""
        self._broker = broker
        self._scheduler = scheduler
        self._table = table
        self._clock = clock
        self._patience = patience
        self._most_changes = most_changes

    @property
    def draining(self) -> bool:
        """Whether this replica is told to stop."""
        return self._scheduler.draining

    async def handle(self, body: bytes, message: RabbitMessage) -> None:
        if self.draining:
            return  # left unacknowledged: when our channel closes in a moment, another replica gets it
        try:
            request = ControlMessage.model_validate_json(body)
        except ValidationError as error:
            logger.bind(event="control_rejected").warning("control message: {}", describe_validation(error))
            await message.reject(requeue=False)
            await self._answer(message, _rejected(body, describe_validation(error)))
            return
        with logger.contextualize(request_id=request.request_id):
            reply = await self._carry_out(request)
            logger.bind(event="control", outcome=reply.outcome).info(
                "{} {}", request.command, request.job or request.model
            )
        await message.ack()
        await self._answer(message, reply)

    async def _carry_out(self, request: ControlMessage) -> Reply:
        reply = Reply(request_id=request.request_id, command=request.command, job=request.job, outcome="failed")
        try:
            if request.model is not None:
                return await self._explain(request.model, reply)
            assert request.job is not None  # the message's own rule
            if request.command == "run_job":
                return await self._run(request.job, reply)
            if request.command == "pause_job":
                await self._table.pause(request.job)
                return reply.model_copy(update={"outcome": "paused"})
            await self._table.resume(request.job, self._clock())
            return reply.model_copy(update={"outcome": "resumed"})
        except DATABASE_ERRORS as error:
            return reply.model_copy(update={"detail": f"database: {describe(error)}"})

    async def _run(self, job: Job, reply: Reply) -> Reply:
        report = await self._scheduler.run_manually(job, self._patience)
        if report is None:
            detail = f"another run of {job} had the lock for {self._patience:g} s"
            return reply.model_copy(update={"outcome": "busy", "detail": detail})
        outcome = "completed" if report.state is RunState.COMPLETED else "failed"
        return reply.model_copy(update={"outcome": outcome, "run_id": report.run_id, "detail": report.detail})

    async def _explain(self, model: str, reply: Reply) -> Reply:
        async with self._table.engine.connect() as connection:
            records = await decisions.for_model(connection, model, self._most_changes)
        if not records:
            return reply.model_copy(update={"detail": f"nothing was ever decided about a model named {model!r}"})
        return reply.model_copy(update={"outcome": "completed", "detail": explanation(records)})

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
