"""idle_enforce: cancel what follows a slot that nobody uses. The only job that takes something away.

Each spell goes through steps that are recorded before they are taken, so that any replica can go on where another
stopped: fresh snapshot -> enforcing, with every cancellation planned -> one DELETE after the other -> perhaps an
uninstall -> the one final event.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from loguru import logger

from limiter.clients.booking import Booking
from limiter.clients.errors import ContractBroken, Rejected, ServiceError
from limiter.db import cancellations, idle_spells
from limiter.db.cancellations import Step, StepState, pending_deletes
from limiter.domain.audit import counted
from limiter.domain.decision import Decision, Reason
from limiter.domain.idleness import IdleSpell, SpellState, Verdict
from limiter.domain.reservations import Cancellation, Slot, deletes
from limiter.domain.snapshot import Snapshot
from limiter.effects import events
from limiter.effects.audit import Audit, partly_cancelled
from limiter.effects.closing import SpellClosing
from limiter.effects.events import Outcome
from limiter.effects.snapshot import SnapshotReader
from limiter.effects.uninstalling import Parts, Uninstalling
from limiter.recording.recorder import Recorder
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class IdleEnforce:
    """Cancels for users warned at least Y ago whose model stayed unused for N; at most so many in one run."""

    reader: SnapshotReader
    booking: Booking
    uninstalling: Uninstalling
    closing: SpellClosing
    telemetry: Telemetry
    audit: Audit

    recorder: Recorder

    async def __call__(self, run: Run) -> None:
        parts: Parts = []
        try:
            await self._enforce(run, parts)
        finally:
            self.recorder.idle(run.claim.job, run.now, RunTrace.joined(parts))

    async def _enforce(self, run: Run, parts: Parts) -> None:
        async with run.read() as connection:
            spells = list((await idle_spells.open_spells(connection)).values())
        for spell in spells:
            # One that began for real waits while DRY_RUN is on.
            if spell.state is SpellState.ENFORCING and spell.dry_run >= self.reader.policy.dry_run:
                with run.isolated(spell=spell.id, model=spell.model_name):
                    await self._go_on(run, parts, spell)
        warned = [spell for spell in spells if spell.state is SpellState.WARNED]
        if warned:
            await self._sweep(run, parts, warned)
        await self.audit.write_waits(run, RunTrace.joined(parts).held)

    async def _read(self, run: Run, parts: Parts) -> Snapshot:
        snapshot = await self.reader.read(run, run.now)
        parts.append(RunTrace(snapshots=((None, snapshot),)))
        return snapshot

    async def _read_fresh(self, run: Run, parts: Parts, spell: IdleSpell) -> Snapshot:
        snapshot = await self.reader.read_fresh(run, spell.key)
        parts.append(RunTrace(snapshots=((spell.key, snapshot),)))
        return snapshot

    async def _sweep(self, run: Run, parts: Parts, warned: Sequence[IdleSpell]) -> None:
        """The sweep only narrows; a fresh snapshot is read before anything is cancelled for a spell."""
        snapshot = await self._read(run, parts)
        begun = 0
        for spell in warned:
            with run.isolated(spell=spell.id, model=spell.model_name):
                verdict = snapshot.verdict_on(spell)
                if verdict.decision is not Decision.CANCEL:
                    await self._end_or_wait(run, parts, snapshot, spell, verdict)
                elif begun >= self.reader.policy.enforce_per_run:
                    waits = snapshot.verdict_record(spell.key, replace(verdict, decision=Decision.HOLD))
                    parts.append(self.audit.waits(snapshot, spell.key, replace(waits, reason=Reason.RUN_LIMIT)))
                else:
                    begun += 1
                    await self._begin(run, parts, spell)

    async def _end_or_wait(
        self, run: Run, parts: Parts, snapshot: Snapshot, spell: IdleSpell, verdict: Verdict
    ) -> None:
        record = snapshot.verdict_record(spell.key, verdict)
        match verdict.decision:
            case Decision.WITHDRAW:
                parts.append(await self.closing.withdraw(run, spell, record))
            case Decision.EXPIRE:
                parts.append(await self.closing.expire(run, spell, record))
            case _:
                parts.append(self.audit.waits(snapshot, spell.key, record))

    async def _begin(self, run: Run, parts: Parts, spell: IdleSpell) -> None:
        """If a fresh snapshot gives the same verdict, record every cancellation, then carry them out."""
        snapshot = await self._read_fresh(run, parts, spell)
        verdict = snapshot.verdict_on(spell)
        if verdict.decision is not Decision.CANCEL:
            return await self._end_or_wait(run, parts, snapshot, spell, verdict)
        record = snapshot.verdict_record(spell.key, verdict)
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.ENFORCING, verdict.reason, run.now):
                return None
            await cancellations.plan(connection, spell.id, deletes(snapshot.bookings, verdict.slots))
            await self.audit.write_acts(connection, record)
        parts.append(self.audit.committed(record))
        return await self._go_on(run, parts, replace(spell, state=SpellState.ENFORCING), snapshot)

    async def _go_on(self, run: Run, parts: Parts, spell: IdleSpell, fresh: Snapshot | None = None) -> None:
        """Take the steps that are left; `fresh` is a snapshot just read, so that the first step needs no other."""
        for step in pending_deletes(await self._steps(run, spell)):
            snapshot = fresh or await self._read_fresh(run, parts, spell)
            fresh = None
            if not snapshot.observation.known(spell.model_name):
                return  # unknown is not zero: go on when it is known again
            if snapshot.used_since(spell):
                return await self._stop(run, parts, spell, snapshot)
            await self._cancel(run, parts, spell, snapshot, step)
        if any(step.state is StepState.PLANNED for step in await self._steps(run, spell)):
            return
        uninstalled = await self.uninstalling.uninstall(run, parts, spell)
        if uninstalled is not None:
            await self._finish(run, parts, spell, Reason.DEADLINE_PASSED, run.now, uninstalled=uninstalled)

    async def _steps(self, run: Run, spell: IdleSpell) -> list[Step]:
        async with run.read() as connection:
            return await cancellations.load(connection, spell.id)

    async def _cancel(self, run: Run, parts: Parts, spell: IdleSpell, snapshot: Snapshot, step: Cancellation) -> None:
        """One DELETE; if the service does not answer, the step stays planned and the next run repeats it."""
        state, error = StepState.DONE, None
        booked = snapshot.bookings.by_id.get(step.reservation_id)
        began = [slot for slot in step.slots if slot.start <= snapshot.at and not self._current_may_go(spell, slot)]
        if booked is not None and (began or booked.user.id != spell.user.id):
            state, error = StepState.FAILED, "the slot has begun" if began else "the slot is another user's now"
        elif not spell.dry_run:
            run.check()
            try:
                await self.booking.cancel(step)
            except (Rejected, ContractBroken) as problem:
                state, error = StepState.FAILED, str(problem)
                self.telemetry.critical(problem.reason, problem)
            except ServiceError as problem:
                return self.telemetry.critical(problem.reason, problem)
        async with run.write() as connection:
            await cancellations.settle(connection, spell.id, step.slots, state, error)
        if state is StepState.DONE and not spell.dry_run:
            parts.append(RunTrace(cancelled=tuple((spell.key, slot) for slot in step.slots)))
        return None

    def _current_may_go(self, spell: IdleSpell, slot: Slot) -> bool:
        return self.reader.policy.idle(spell.model_name).cancel_current and slot.start <= spell.opened_at

    async def _stop(self, run: Run, parts: Parts, spell: IdleSpell, snapshot: Snapshot) -> None:
        """The model is used: leave the rest alone, and tell exactly what was cancelled."""
        steps = await self._steps(run, spell)
        left = [step.slot for step in steps if step.state is StepState.PLANNED]
        async with run.write() as connection:
            await cancellations.settle(connection, spell.id, left, StepState.STOPPED)
        if any(step.state is StepState.DONE for step in steps):
            await self._finish(run, parts, spell, Reason.USED_AGAIN, snapshot.at, uninstalled=False)
        else:
            verdict = Verdict(Decision.WITHDRAW, Reason.USED_AGAIN)
            parts.append(await self.closing.withdraw(run, spell, snapshot.verdict_record(spell.key, verdict)))

    async def _finish(
        self, run: Run, parts: Parts, spell: IdleSpell, reason: Reason, at: datetime, *, uninstalled: bool
    ) -> None:
        steps = await self._steps(run, spell)
        done = [step.slot for step in steps if step.state is StepState.DONE]
        failed = [step.slot for step in steps if step.state is StepState.FAILED]
        partly = partly_cancelled(spell, reason, at, {"slots": len(steps), "done": len(done), "failed": len(failed)})
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.ENFORCED, reason, run.now):
                return
            await self.closing.tell(connection, run, spell, events.CANCELLED, Outcome(done, failed, uninstalled))
            await self.audit.write_acts(connection, *partly)
        for record in partly:
            parts.append(self.audit.committed(record))
        if done and not spell.dry_run:
            self.telemetry.cancelled(len(done))
        bound = logger.bind(event="enforced", reason=str(reason), user_id=str(spell.user.id), failed=len(failed))
        freed = "uninstalled" if uninstalled else "not uninstalled"
        bound.info("{} of {} cancelled, model {}", counted(len(done), "slot"), spell.model_name, freed)
