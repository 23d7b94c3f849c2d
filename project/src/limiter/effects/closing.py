"""Ends idle spells that lead to nothing, for both idle jobs alike."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import idle_spells, outbox
from limiter.domain.audit import DecisionRecord
from limiter.domain.idleness import IdleSpell, SpellState
from limiter.effects import events
from limiter.effects.audit import Audit
from limiter.effects.events import EventWriter, Outcome
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class SpellClosing:
    """Closes a spell and says so to its user, where a warning may have reached him."""

    writer: EventWriter
    telemetry: Telemetry
    audit: Audit

    async def withdraw(self, run: Run, spell: IdleSpell, record: DecisionRecord) -> RunTrace:
        """Withdraw a warning that no longer stands; the user hears of it if the warning may have reached him."""
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.WITHDRAWN, record.reason, run.now):
                return RunTrace()
            if not await outbox.retract_warning(connection, spell.id):
                await self.tell(connection, run, spell, events.WITHDRAWN, Outcome())
            await self.audit.write_acts(connection, record)
        return self.audit.committed(record)

    async def expire(self, run: Run, spell: IdleSpell, record: DecisionRecord) -> RunTrace:
        """Nothing is left to cancel; there is nothing to tell."""
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.EXPIRED, record.reason, run.now):
                return RunTrace()
            await outbox.retract_warning(connection, spell.id)
            await self.audit.write_acts(connection, record)
        return self.audit.committed(record)

    async def tell(self, connection: AsyncConnection, run: Run, spell: IdleSpell, stage: str, outcome: Outcome) -> None:
        """Write a later event of a spell; it goes where the warning went."""
        email = await outbox.warned_address(connection, spell.id) or await self.writer.address(connection, spell.user)
        if email is None:
            self.telemetry.critical("address_unknown", f"cannot tell {stage}", user_id=str(spell.user.id))
            return
        await self.writer.no_use(connection, spell, stage, email, run.now, outcome)
