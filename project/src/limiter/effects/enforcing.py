"""Carries out what `domain.enforcement` says of a spell, each step recorded before the next one is asked for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import assert_never
from uuid import uuid4

from limiter.clients.booking import Booking
from limiter.clients.errors import CircuitOpen, NotAllowed, ServiceError, Unavailable
from limiter.db import cancellations, idle_spells, ledger
from limiter.domain.closing import Close, Tell, closing_records
from limiter.domain.command import CommandKind, CommandState, backoff, new_command
from limiter.domain.decision import Decision, Reason
from limiter.domain.enforcement import Delete, Settle, Stop, Uninstall, Wait, is_ripe, next_reservation, next_step
from limiter.domain.idle_spell import IdleSpell, Step, StepState, as_booked
from limiter.domain.reservations import Slot
from limiter.domain.snapshot import Snapshot
from limiter.domain.step_facts import step_facts
from limiter.effects.audit import Audit
from limiter.effects.closing import SpellClosing
from limiter.effects.commands import Commands
from limiter.effects.snapshot import SnapshotReader
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass
class Refusals:
    """What the booking service refused in this run: the alarm is raised once, and nothing more is asked of it.

    `unanswered` is whether one reservation could not be read in it: a second such one is taken for an outage.
    """

    reasons: set[str] = field(default_factory=set)
    unanswered: bool = False


@dataclass(frozen=True)
class Enforcing:
    """Takes the steps of spells that are enforced; a call to the booking service takes at most `in_flight`."""

    reader: SnapshotReader
    booking: Booking
    commands: Commands
    closing: SpellClosing
    telemetry: Telemetry
    audit: Audit
    in_flight: timedelta

    async def go_on(self, run: Run, spell: IdleSpell, base: Snapshot, refusals: Refusals) -> AsyncIterator[RunTrace]:
        """Take steps until the spell is closed or has to wait; raises ServiceError if a step's facts cannot be read."""
        rule = base.policy.idle(spell.model_name)
        while not await run.braked():
            spell = replace(spell, steps=await self._steps(run, spell))
            reservation = next_reservation(spell, self.reader.clock())
            try:
                base = await self._read(run, spell, base, reservation)
            except ServiceError as problem:
                outage = isinstance(problem, CircuitOpen) or (isinstance(problem, Unavailable) and refusals.unanswered)
                refusals.unanswered |= isinstance(problem, Unavailable)
                if outage or not await self._put_off(run, spell, base, reservation, problem):
                    raise
                continue
            yield RunTrace(snapshots=((spell.key, base),))
            now = base.prior.spells.get(spell.key)
            if now is None or now.id != spell.id:
                return  # somebody has closed it, and another may be open since
            spell = await self._as_booked(run, now, base)
            step = next_step(spell, step_facts(base, spell, reservation), rule)
            match step:
                case Delete() if not refusals.reasons:
                    yield await self._delete(run, spell, base, step, refusals)
                case Settle():
                    await self._settle(run, spell, base, step.slots, step.state, step.why)
                case Stop():
                    await self._stop(run, spell, base, step)
                case Uninstall() if await self._planned(run, spell, base, step):
                    yield RunTrace(acted=(base.record(spell.key, Decision.UNINSTALL, Reason.DEADLINE_PASSED),))
                case Tell() | Close():
                    yield await self._close(run, spell, base, step)
                    return
                case Wait() | Delete() | Uninstall():
                    yield self.audit.waits(base, spell.key, _waiting_for(step))
                    return
                case _:
                    assert_never(step)

    async def _steps(self, run: Run, spell: IdleSpell) -> tuple[Step, ...]:
        """The steps as they are recorded now."""
        async with run.read() as connection:
            return await cancellations.load(connection, spell.id)

    async def _read(self, run: Run, spell: IdleSpell, base: Snapshot, reservation: str | None) -> Snapshot:
        """What the next step needs: one reservation, or, before a model is uninstalled, everything."""
        if spell.slots(StepState.PLANNED) or not base.policy.idle(spell.model_name).uninstall:
            return await self.reader.refresh(run, spell.key, base, reservation)
        return await self.reader.read_fresh(run, spell.key)

    async def _as_booked(self, run: Run, spell: IdleSpell, base: Snapshot) -> IdleSpell:
        """The spell as it is booked now, and recorded so: what is cancelled is told as it was in the end."""
        booked = as_booked(spell, base.bookings)
        if booked is not spell:
            async with run.write() as connection:
                await cancellations.rebook(connection, spell, booked)
        return booked

    async def _delete(self, run: Run, spell: IdleSpell, base: Snapshot, step: Delete, refusals: Refusals) -> RunTrace:
        """One DELETE; if it is refused for now, or its end is not known, the step stays planned, to be tried again."""
        state, error, until = StepState.DONE, None, self.reader.clock() + self.in_flight
        if not spell.dry_run:
            async with run.write() as connection:
                # Here, and not only before the look: it took seconds, in which a person may have paused or closed it.
                braked = await run.braked(connection)
                if braked or not await cancellations.tried(connection, spell.id, step.slots, until):
                    return RunTrace()
            run.check()
            try:
                if not await self.booking.cancel(step.reservation_id, None if step.whole else step.slots[0], run.check):
                    state = StepState.ALREADY_GONE
            except ServiceError as problem:
                self.telemetry.critical(problem.reason, problem)
                if is_for_now := isinstance(problem, NotAllowed | Unavailable):
                    refusals.reasons.add(problem.reason)
                # Of a DELETE sent before, which may be what it is refused for, a refusal says nothing.
                if is_for_now or problem.unsure or spell.is_in_flight(step.slots, base.at):
                    await self._refused(run, spell, base, step, problem)
                    return RunTrace()
                state, error = StepState.FAILED, str(problem)
        await self._settle(run, spell, base, step.slots, state, error)
        done = state is StepState.DONE and not spell.dry_run
        return RunTrace(cancelled=tuple((spell.key, slot) for slot in step.slots) if done else ())

    async def _put_off(
        self, run: Run, spell: IdleSpell, base: Snapshot, reservation: str | None, problem: ServiceError
    ) -> bool:
        """One reservation that cannot be read does not hold up the others; false if none of its steps was next."""
        at = self.reader.clock()
        steps = [step for step in spell.steps if is_ripe(step, at) and step.slot.reservation_id == reservation]
        if not steps:
            return False
        self.telemetry.critical(problem.reason, problem)
        async with run.write() as connection:
            later = at + base.policy.pacing_of(spell.model_name).backoff_first
            await cancellations.refused(connection, spell.id, steps, later, str(problem))
        return True

    async def _refused(self, run: Run, spell: IdleSpell, base: Snapshot, step: Delete, problem: ServiceError) -> None:
        pacing = base.policy.pacing_of(spell.model_name)
        before = [one for one in spell.steps if one.slot in step.slots]
        tries = 1 + max((one.attempts for one in before), default=0)
        later = base.at + backoff(tries, pacing.backoff_first, pacing.backoff_longest)
        async with run.write() as connection:
            await cancellations.refused(connection, spell.id, before, later, str(problem), undone=problem.undone)

    async def _settle(
        self, run: Run, spell: IdleSpell, base: Snapshot, slots: tuple[Slot, ...], state: StepState, error: str | None
    ) -> None:
        async with run.write() as connection:
            if not await cancellations.settle(connection, spell.id, slots, state, error) and state is StepState.DONE:
                self.telemetry.critical("cancelled_after_closing", "a slot went while somebody closed the spell")
            if set(spell.slots(StepState.PLANNED)) <= set(slots):
                await idle_spells.settled(connection, spell.id, base.at)

    async def _stop(self, run: Run, spell: IdleSpell, base: Snapshot, step: Stop) -> None:
        async with run.write() as connection:
            await cancellations.stop(connection, spell.id)
            await idle_spells.stopped(connection, spell.id, step.reason)
            await idle_spells.settled(connection, spell.id, base.at)

    async def _planned(self, run: Run, spell: IdleSpell, base: Snapshot, step: Uninstall) -> bool:
        """Record the intent, then send it; false if another command of the model is unfinished."""
        model, last, dry = step.model, spell.uninstall, spell.dry_run
        intent = new_command(uuid4(), model, CommandKind.UNINSTALL, model.replicas, last, base.at, dry_run=dry)
        intent = replace(intent, spell_id=spell.id)
        record = base.record(spell.key, Decision.UNINSTALL, Reason.DEADLINE_PASSED)
        async with run.write() as connection:
            stays = await idle_spells.stays_open(connection, spell.id)  # or somebody has closed it since the look
            recorded = stays and await ledger.plan(connection, [intent], {intent.id: Reason.DEADLINE_PASSED})
            if recorded:
                await self.audit.write_acts(connection, record)
        if not recorded:
            return False
        self.audit.committed(record)
        if intent.state is CommandState.PLANNED:
            await self.commands.send_all(run, [intent])
        return True

    async def _close(self, run: Run, spell: IdleSpell, base: Snapshot, step: Tell | Close) -> RunTrace:
        records = closing_records(spell, step, base.at)
        if isinstance(step, Close):
            return await self.closing.withdraw(run, spell, records[0])
        return await self.closing.finish(run, spell, step, *records)


def _waiting_for(step: Wait | Delete | Uninstall) -> Reason:
    if isinstance(step, Wait):
        return step.reason
    return Reason.REFUSED if isinstance(step, Delete) else Reason.COMMAND_UNFINISHED
