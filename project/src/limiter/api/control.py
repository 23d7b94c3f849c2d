"""Commands by hand: each is carried out, acknowledged once its work is committed, and answered exactly once.

A message that cannot be understood, or breaks a rule, goes to the dead-letter queue once, and is never put back to be
refused again.
"""

from dataclasses import dataclass

from faststream.rabbit import RabbitBroker, RabbitMessage
from loguru import logger
from pydantic import ValidationError

from limiter.api.answers import Answer, Refused, rejected, reply_to
from limiter.api.handlers import Handlers
from limiter.api.messages import CONTROL_MESSAGE, MAX_TEXT, ControlRequest, Reply, SignedRequest
from limiter.clients.decoding import describe_validation
from limiter.db.engine import DATABASE_ERRORS, describe

MAX_REFUSAL = 1000  # characters of the reason, which may quote what was sent


@dataclass(frozen=True)
class Control:
    """Reads commands, has them carried out, and answers."""

    broker: RabbitBroker
    handlers: Handlers

    @property
    def draining(self) -> bool:
        """Whether this replica is told to stop."""
        return self.handlers.scheduler.draining

    async def handle(self, body: bytes, message: RabbitMessage) -> None:
        if self.draining:
            return  # left unacknowledged: when our channel closes in a moment, another replica gets it
        try:
            request = _signed(CONTROL_MESSAGE.validate_json(body), message)
            with logger.contextualize(request_id=request.request_id and request.request_id[:MAX_TEXT]):
                reply = reply_to(request, await self._carry_out(request))
                _log(request, reply)
        except (ValidationError, Refused) as error:
            await self._reject(body, message, error)
            return
        await message.ack()
        await self._answer(message, reply)

    async def _carry_out(self, request: ControlRequest) -> Answer:
        try:
            return await self.handlers.carry_out(request)
        except DATABASE_ERRORS as error:
            return Answer("failed", f"database: {describe(error)}")

    async def _reject(self, body: bytes, message: RabbitMessage, error: ValidationError | Refused) -> None:
        why = describe_validation(error) if isinstance(error, ValidationError) else str(error)
        logger.bind(event="control_rejected").warning("control message: {}", why[:MAX_REFUSAL])
        await message.reject(requeue=False)
        await self._answer(message, rejected(body, why[:MAX_REFUSAL]))

    async def _answer(self, message: RabbitMessage, reply: Reply) -> None:
        if message.reply_to:
            await self.broker.publish(
                reply.model_dump(mode="json"),
                queue=message.reply_to,
                correlation_id=message.raw_message.correlation_id,
                content_type="application/json",
            )


def _signed(request: ControlRequest, message: RabbitMessage) -> ControlRequest:
    """The request; unless it says otherwise, it comes from the user of the connection, whom the broker has checked."""
    user = message.raw_message.user_id
    if isinstance(request, SignedRequest) and request.by is None and user:
        return request.model_copy(update={"by": user})
    return request


def _log(request: ControlRequest, reply: Reply) -> None:
    """One line: what was asked by whom and why, how it ended, and why so if it was not carried out."""
    asked = request.model_dump(mode="json", exclude={"request_id", "outcome"}, exclude_none=True)
    bound = logger.bind(event="control", outcome=reply.outcome, **asked)
    what = " ".join(filter(None, (request.command, asked.get("job") or asked.get("model"))))
    why = f": {reply.detail}" if reply.outcome in ("failed", "busy") else ""
    bound.info("{}: {}{}", what, reply.outcome, why)
