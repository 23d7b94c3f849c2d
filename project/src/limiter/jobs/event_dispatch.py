"""event_dispatch: hand the outbox's events to the broker, many at once, in order for each spell."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger

from limiter.clients.errors import Rejected, ServiceError
from limiter.clients.notifier import Notifier
from limiter.db import idle_spells, outbox
from limiter.db.outbox import Event
from limiter.domain.command import backoff
from limiter.effects.events import warned_of
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class EventDispatch:
    """Publishes until nothing is due; a warning counts as delivered when its confirmation has come, not before."""

    notifier: Notifier
    telemetry: Telemetry
    clock: Callable[[], datetime]
    window: int
    retry_first: timedelta
    retry_longest: timedelta

    async def __call__(self, run: Run) -> None:
        while True:
            async with run.write() as connection:
                events = await outbox.take(connection, self.window)
            if not events:
                return
            run.check()
            answers = await asyncio.gather(*(self._publish(event) for event in events))
            sent = [event for event, error in zip(events, answers, strict=True) if error is None]
            failed = [(event, error) for event, error in zip(events, answers, strict=True) if error is not None]
            await self._record(run, sent, failed)

    async def _publish(self, event: Event) -> ServiceError | None:
        try:
            await self.notifier.publish(str(event.message_id), event.routing_key, event.body)
        except ServiceError as error:
            return error
        return None

    async def _record(self, run: Run, sent: list[Event], failed: list[tuple[Event, ServiceError]]) -> None:
        async with run.write() as connection:
            if sent:
                now = self.clock()
                await outbox.published(connection, sent, now)
                await idle_spells.delivered(connection, warned_of(sent), now)
            if failed:
                later = [(event, self._wait(event), str(error)) for event, error in failed]
                await outbox.postponed(connection, later)
        for event in sent:
            self.telemetry.event_sent(event.stage, "confirmed")
            logger.bind(event="event_sent", message=str(event.message_id), spell=str(event.spell_id)).info(
                "{} confirmed by the broker", event.stage
            )
        for event, error in failed:
            unroutable = isinstance(error, Rejected)
            self.telemetry.event_sent(event.stage, "unroutable" if unroutable else "unconfirmed")
            self.telemetry.critical(
                "event_unroutable" if unroutable else "event_unconfirmed", error, message=str(event.message_id)
            )

    def _wait(self, event: Event) -> timedelta:
        return backoff(event.attempts, self.retry_first, self.retry_longest)
