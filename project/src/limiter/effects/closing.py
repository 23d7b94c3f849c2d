"""Closes idle spells: every delivered warning is followed by exactly one event, withdrawn or cancelled."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.clients.event_wire import Stage
from limiter.db import cancellations, idle_spells, outbox
from limiter.domain.audit import DecisionRecord
from limiter.domain.closing import Tell, counts, is_told, spell_record, what_was_done
from limiter.domain.command import Command, CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import IdleSpell, SpellState, closing_reason
from limiter.effects import events
from limiter.effects.audit import Audit
from limiter.effects.events import EventWriter, Outcome
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run
from limiter.telemetry import Telemetry

BEFORE_ENFORCING = (SpellState.WARNING_PENDING, SpellState.WARNED)
TOLD_LATER = "and idle_enforce tells the user how it ended"
UNSETTLED = f"nothing more is cancelled; a DELETE is not settled yet, {TOLD_LATER}"
UNINSTALLING = f"nothing more is cancelled; the uninstall was sent already, {TOLD_LATER}"


@dataclass(frozen=True, slots=True)
class ClosedByHand:
    """What became of a spell that a person closes, in words; what is decided, and told, if it is closed at once."""

    spell: IdleSpell
    how: str
    record: DecisionRecord | None = None
    tell: Tell | None = None


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
        return self.audit.committed(record, spell)

    async def finish(self, run: Run, spell: IdleSpell, tell: Tell, *records: DecisionRecord) -> RunTrace:
        """Close an enforced spell, and tell what was cancelled."""
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.ENFORCED, tell.reason, run.now):
                return RunTrace()
            outcome = Outcome(tell.cancelled, tell.already_gone, tell.failed, tell.uninstalled)
            await self._tell(connection, spell, events.CANCELLED, run.now, outcome)
            await self.audit.write_acts(connection, *records, closed=spell)
        self.audit.enforced(spell, tell)
        return RunTrace.joined(self.audit.committed(record, spell) for record in records)

    async def withdraw_by_hand(
        self, connection: AsyncConnection, spell: IdleSpell, at: datetime, why: str
    ) -> ClosedByHand | None:
        """Close a spell for an operator, and say how; None if it was closed meanwhile. What was cancelled is told.

        While a DELETE is not settled nobody can tell truly what was taken: then idle_enforce finds out, and closes it.
        Once the transaction is committed, `committed_by_hand` counts and logs it.
        """
        spell = await idle_spells.locked(connection, spell)
        uninstalling = is_under_way(spell.uninstall)
        if uninstalling or any(step.is_unsettled for step in spell.steps):
            await idle_spells.stopped(connection, spell.id, Reason.BY_OPERATOR)
            await cancellations.stop(connection, spell.id, untried_alone=True)
            return ClosedByHand(spell, UNINSTALLING if uninstalling else UNSETTLED)
        return await self._close_by_hand(connection, spell, at, why)

    def committed_by_hand(self, closed: ClosedByHand) -> None:
        """Count and log it as what a job closes."""
        if closed.record is not None:
            self.audit.committed(closed.record, closed.spell)
        if closed.tell is not None:
            self.audit.enforced(closed.spell, closed.tell)

    async def _close_by_hand(
        self, connection: AsyncConnection, spell: IdleSpell, at: datetime, why: str
    ) -> ClosedByHand | None:
        how = f"closed, was {spell.state}"
        gone = spell.uninstall is not None and spell.uninstall.state is CommandState.COMPLETED
        tell = what_was_done(spell, Reason.BY_OPERATOR, uninstalled=gone)
        if spell.state is not SpellState.ENFORCING or not is_told(spell, tell):
            record = spell_record(spell, Decision.WITHDRAW, Reason.BY_OPERATOR, at, {"why": why})
            closed = await self._withdraw(connection, spell, record, at)
            return ClosedByHand(spell, how, record) if closed else None
        if not await idle_spells.move(connection, spell.id, SpellState.ENFORCED, Reason.BY_OPERATOR, at):
            return None
        await cancellations.stop(connection, spell.id)
        outcome = Outcome(tell.cancelled, tell.already_gone, tell.failed, tell.uninstalled)
        await self._tell(connection, spell, events.CANCELLED, at, outcome)
        record = spell_record(spell, Decision.CANCEL, Reason.BY_OPERATOR, at, {"why": why} | counts(spell))
        await self.audit.write_acts(connection, record, closed=spell)
        return ClosedByHand(spell, how, record, tell)

    async def _withdraw(
        self, connection: AsyncConnection, spell: IdleSpell, record: DecisionRecord, at: datetime
    ) -> bool:
        judged = (spell.state,) if spell.state is SpellState.ENFORCING else BEFORE_ENFORCING
        if not await idle_spells.move(connection, spell.id, SpellState.WITHDRAWN, record.reason, at, judged):
            return False
        await cancellations.stop(connection, spell.id)
        if not await outbox.retract_warning(connection, spell.id):
            outcome = Outcome(closing_reason=closing_reason(record.reason))
            await self._tell(connection, spell, events.WITHDRAWN, at, outcome)
        await self.audit.write_acts(connection, record, closed=spell)
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


def is_under_way(uninstall: Command | None) -> bool:
    """Whether it was sent, and may still take effect; one that is only planned is not sent once its spell is closed."""
    return uninstall is not None and uninstall.unfinished and uninstall.sent_at is not None
