"""event_dispatch: hand the outbox's events to the broker, many at once, in order for each user and model."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.clients.errors import Rejected, ServiceError
from limiter.clients.notifier import Notifier
from limiter.db import cancellations, idle_spells, keeps, outbox, readings
from limiter.db.outbox import Event
from limiter.domain.command import backoff
from limiter.domain.decision import Reason
from limiter.domain.idle_spell import IdleSpell, SpellState
from limiter.domain.overtaken import held_back
from limiter.domain.policy import Policy
from limiter.effects.events import STARTED, EventWriter, warned_of
from limiter.effects.going_out import as_it_goes_out, over_by, whole_second
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class EventDispatch:
    """Publishes until nothing is due, by the routing `keys` of the stages of events.

    A warning counts as delivered when its confirmation has come, not before.
    """

    notifier: Notifier
    writer: EventWriter
    policy: Policy
    telemetry: Telemetry
    clock: Callable[[], datetime]
    window: int
    keys: Mapping[str, str]
    retry_first: timedelta
    retry_longest: timedelta

    async def __call__(self, run: Run) -> None:
        while True:
            if await run.braked() or not await self._is_connected():
                return
            async with run.write() as connection:
                taken = await outbox.take(connection, self.window, self.keys)
                events = await self._sendable(connection, taken)
            if not taken:
                return
            run.check()
            answers = await asyncio.gather(*(self._publish(event) for event in events))
            sent = [event for event, error in zip(events, answers, strict=True) if error is None]
            failed = [(event, error) for event, error in zip(events, answers, strict=True) if error is not None]
            await self._record(run, sent, failed)

    async def _is_connected(self) -> bool:
        """Whether events can be sent; what is not even taken counts as never tried, and may be taken back."""
        connected = await self.notifier.is_connected()
        if connected:
            self.telemetry.is_over("event_unconfirmed")
        else:
            self.telemetry.goes_on("event_unconfirmed", "not connected to RabbitMQ: events wait")
        return connected

    async def _sendable(self, connection: AsyncConnection, taken: list[Event]) -> list[Event]:
        """Those of the events that may go out now; the others wait, and a reminder never goes out in a dry run."""
        spells, now = await idle_spells.warned_of(connection, warned_of(taken)), self.clock()
        held = await self._held_back(connection, spells, now) if spells else {}
        dropped = [event for event in taken if event.stage == STARTED and self.policy.dry_run]
        waiting = [(event, held[event.spell_id]) for event in taken if event.spell_id in held]
        await outbox.put_back(connection, waiting, self.retry_longest)
        await outbox.drop(connection, dropped)
        events = [event for event in taken if event.spell_id not in held and event not in dropped]
        return await self._with_deadlines(connection, events, spells, now)

    async def _held_back(
        self, connection: AsyncConnection, spells: Mapping[UUID, IdleSpell], now: datetime
    ) -> dict[UUID | None, Reason]:
        """Of which of the spells the warning must not be sent now, by all that is known without asking anybody."""
        used = await readings.last_used(connection, {spell.model_name for spell in spells.values()})
        kept = await keeps.active_or_ended_since(connection, min(spell.idle_since for spell in spells.values()))
        reasons = {
            spell.id: held_back(self.policy, spell, used.get(spell.model_name), kept, now) for spell in spells.values()
        }
        return {id: why for id, why in reasons.items() if why is not None}

    async def _with_deadlines(
        self, connection: AsyncConnection, events: list[Event], spells: Mapping[UUID, IdleSpell], now: datetime
    ) -> list[Event]:
        """A warning says the deadline as it will be held, however late it goes out; whole seconds, rounded up.

        It names no slot that is over by then, and goes to the address that its user has by now.
        """
        deadlines = {
            id: whole_second(self.policy.idle(spell.model_name).earliest(spell.not_before, now))
            for id in warned_of(events)
            if (spell := spells.get(id)) is not None  # closed or not: it may go out long after it was written
        }
        if not deadlines:
            return events
        await idle_spells.promised(connection, deadlines)
        over = {id: slots for id, deadline in deadlines.items() if (slots := over_by(spells[id], deadline))}
        for id, slots in over.items():
            await cancellations.unname(connection, id, slots)
        emails = await self._emails(connection, spells)
        dated = [as_it_goes_out(event, deadlines, emails, over) for event in events]
        await outbox.rewrite(connection, [new for new, old in zip(dated, events, strict=True) if new is not old])
        return dated

    async def _emails(self, connection: AsyncConnection, spells: Mapping[UUID, IdleSpell]) -> dict[UUID, str]:
        """Where the warnings of pending spells go by now: an address may be announced, or the template corrected."""
        users = {id: one.user for id, one in spells.items() if one.state is SpellState.WARNING_PENDING}
        known = await self.writer.addresses(connection, users.values())
        return {id: known[user.id] for id, user in users.items() if user.id in known}

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
            logger.bind(event="event_sent", **_ids(event)).info("{} confirmed by the broker", event.stage)
        for event, error in failed:
            unroutable = isinstance(error, Rejected)
            self.telemetry.event_sent(event.stage, "unroutable" if unroutable else "unconfirmed")
            self.telemetry.critical("event_unroutable" if unroutable else "event_unconfirmed", error, **_ids(event))

    def _wait(self, event: Event) -> timedelta:
        return backoff(event.attempts, self.retry_first, self.retry_longest)


def _ids(event: Event) -> dict[str, str]:
    """Of which event a line of the log tells; not by the name of what the line itself says, which it would replace."""
    return {"message_id": str(event.message_id), "spell": str(event.spell_id)}
