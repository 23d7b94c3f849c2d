"""Closes idle spells: every delivered warning is followed by exactly one event, withdrawn or cancelled."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.clients.event_wire import Stage
from limiter.db import cancellations, idle_spells, outbox
from limiter.domain.audit import DecisionRecord
from limiter.domain.closing import Tell, counts, is_told, spell_record, what_was_done
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import IdleSpell, SpellState, closing_reason
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
            if not await self._withdraw(connection, spell, record, run.now):
                return RunTrace()
        return self.audit.committed(record)

    async def finish(self, run: Run, spell: IdleSpell, tell: Tell, *records: DecisionRecord) -> RunTrace:
        """Close an enforced spell, and tell what was cancelled."""
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.ENFORCED, tell.reason, run.now):
                return RunTrace()
            outcome = Outcome(tell.cancelled, tell.already_gone, tell.failed, tell.uninstalled)
            await self._tell(connection, spell, events.CANCELLED, run.now, outcome)
            await self.audit.write_acts(connection, *records)
        return RunTrace.joined(self.audit.committed(record) for record in records)

    async def withdraw_by_hand(self, connection: AsyncConnection, spell: IdleSpell, at: datetime, why: str) -> bool:
        """Close a spell for an operator; false if it was closed meanwhile. What was cancelled before is told."""
        spell = await idle_spells.locked(connection, spell)
        tell = what_was_done(spell, Reason.BY_OPERATOR)
        if spell.state is not SpellState.ENFORCING or not is_told(spell, tell):
            record = spell_record(spell, Decision.WITHDRAW, Reason.BY_OPERATOR, at, {"why": why})
            return await self._withdraw(connection, spell, record, at)
        if not await idle_spells.move(connection, spell.id, SpellState.ENFORCED, Reason.BY_OPERATOR, at):
            return False
        await cancellations.stop(connection, spell.id)
        outcome = Outcome(tell.cancelled, tell.already_gone, tell.failed)
        await self._tell(connection, spell, events.CANCELLED, at, outcome)
        numbers = {"why": why} | counts(spell)
        await self.audit.write_acts(connection, spell_record(spell, Decision.CANCEL, Reason.BY_OPERATOR, at, numbers))
        return True

    async def _withdraw(
        self, connection: AsyncConnection, spell: IdleSpell, record: DecisionRecord, at: datetime
    ) -> bool:
        if not await idle_spells.move(connection, spell.id, SpellState.WITHDRAWN, record.reason, at):
            return False
        await cancellations.stop(connection, spell.id)
        if not await outbox.retract_warning(connection, spell.id):
            outcome = Outcome(closing_reason=closing_reason(record.reason))
            await self._tell(connection, spell, events.WITHDRAWN, at, outcome)
        await self.audit.write_acts(connection, record)
        return True

    async def _tell(
        self, connection: AsyncConnection, spell: IdleSpell, stage: Stage, at: datetime, outcome: Outcome
    ) -> None:
        """Write a later event of a spell; it goes where the warning went."""
        email = await outbox.warned_address(connection, spell.id) or await self.writer.address(connection, spell.user)
        if email is None:
            self.telemetry.critical("address_unknown", f"cannot tell {stage}", user_id=str(spell.user.id))
            return
        await self.writer.no_use(connection, spell, stage, email, at, outcome)
