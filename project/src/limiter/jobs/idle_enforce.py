"""idle_enforce: cancel what follows a slot that nobody uses. The only job that takes something away.

Each spell goes through steps that are recorded before they are taken, so that any replica can go on where another
stopped: fresh look -> enforcing, with every cancellation planned -> one DELETE after the other -> perhaps an uninstall
-> the one final event.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from uuid import uuid4

from loguru import logger

from limiter.clients.booking import Booking
from limiter.clients.http import ContractBroken, NeighbourError, Rejected
from limiter.db import idle_spells, ledger
from limiter.db.idle_spells import Step, StepState
from limiter.db.runs import Run
from limiter.domain.action import Command, CommandKind, CommandState, Decision, Reason, intend
from limiter.domain.audit import Finding, Numbers
from limiter.domain.fleet import ServedModel
from limiter.domain.idleness import Spell, SpellState, Verdict
from limiter.domain.reservations import Cancellation, Slot, cancellations
from limiter.domain.survey import Survey
from limiter.jobs import events
from limiter.jobs.audit import Audit
from limiter.jobs.commands import Commands
from limiter.jobs.events import Outcome
from limiter.jobs.idle_warning import Ending
from limiter.jobs.survey import Surveyor
from limiter.recording import Recorder
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class IdleEnforce:
    """Cancels for users warned at least Y ago whose model stayed unused for N; at most so many in one run."""

    surveyor: Surveyor
    booking: Booking
    commands: Commands
    ending: Ending
    telemetry: Telemetry
    audit: Audit

    recorder: Recorder

    async def __call__(self, run: Run) -> None:
        try:
            await self._enforce(run)
        finally:
            self.recorder.idle(run.claim.job, run.now, run.notes)

    async def _enforce(self, run: Run) -> None:
        async with run.read() as connection:
            spells = list((await idle_spells.open_spells(connection)).values())
        for spell in spells:
            # One that began for real waits while DRY_RUN is on.
            if spell.state is SpellState.ENFORCING and spell.dry_run >= self.surveyor.policy.dry_run:
                with run.isolated(spell=spell.id, model=spell.model_name):
                    await self._go_on(run, spell)
        warned = [spell for spell in spells if spell.state is SpellState.WARNED]
        if warned:
            await self._sweep(run, warned)
        await self.audit.write(run)

    async def _sweep(self, run: Run, warned: Sequence[Spell]) -> None:
        """The sweep only narrows; each spell is looked at afresh before anything is cancelled for it."""
        survey = await self.surveyor.look(run, run.now)
        begun = 0
        for spell in warned:
            with run.isolated(spell=spell.id, model=spell.model_name):
                verdict = survey.verdict_on(spell)
                if verdict.decision is not Decision.CANCEL:
                    await self._end_or_wait(run, survey, spell, verdict)
                elif begun >= self.surveyor.policy.enforce_per_run:
                    waits = survey.explained(spell.holder, replace(verdict, decision=Decision.HOLD))
                    self.audit.hold(run, survey, spell.holder, replace(waits, reason=Reason.RUN_LIMIT))
                else:
                    begun += 1
                    await self._begin(run, spell)

    async def _end_or_wait(self, run: Run, survey: Survey, spell: Spell, verdict: Verdict) -> None:
        finding = survey.explained(spell.holder, verdict)
        match verdict.decision:
            case Decision.WITHDRAW:
                await self.ending.withdraw(run, spell, finding)
            case Decision.EXPIRE:
                await self.ending.expire(run, spell, finding)
            case _:
                self.audit.hold(run, survey, spell.holder, finding)

    async def _begin(self, run: Run, spell: Spell) -> None:
        """Look again; if it still holds, record every cancellation, then carry them out."""
        survey = await self.surveyor.look_again(run, spell.holder)
        verdict = survey.verdict_on(spell)
        if verdict.decision is not Decision.CANCEL:
            return await self._end_or_wait(run, survey, spell, verdict)
        finding = survey.explained(spell.holder, verdict)
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.ENFORCING, verdict.reason, run.now):
                return None
            await idle_spells.plan_steps(connection, spell.id, cancellations(survey.bookings, verdict.slots))
            await self.audit.act(connection, finding)
        self.audit.told(run, finding)
        return await self._go_on(run, replace(spell, state=SpellState.ENFORCING), survey)

    async def _go_on(self, run: Run, spell: Spell, fresh: Survey | None = None) -> None:
        """Take the steps that are left. `fresh` is a look just taken; without one, look before the first step."""
        for step in _deletes(await self._steps(run, spell)):
            survey = fresh or await self.surveyor.look_again(run, spell.holder)
            fresh = None
            if not survey.seen.known(spell.model_name):
                return  # unknown is not zero: go on when it is known again
            if survey.used_since(spell):
                return await self._stop(run, spell, survey)
            await self._cancel(run, spell, survey, step)
        if any(step.state is StepState.PLANNED for step in await self._steps(run, spell)):
            return
        uninstalled = await self._uninstall(run, spell)
        if uninstalled is not None:
            await self._finish(run, spell, Reason.DEADLINE_PASSED, run.now, uninstalled=uninstalled)

    async def _steps(self, run: Run, spell: Spell) -> list[Step]:
        async with run.read() as connection:
            return await idle_spells.steps(connection, spell.id)

    async def _cancel(self, run: Run, spell: Spell, survey: Survey, step: Cancellation) -> None:
        """One DELETE; if the service does not answer, the step stays planned and the next run repeats it."""
        state, error = StepState.DONE, None
        booked = survey.bookings.by_id.get(step.reservation_id)
        began = [slot for slot in step.slots if slot.start <= survey.at and not self._current_may_go(spell, slot)]
        if booked is not None and (began or booked.user.id != spell.user.id):
            state, error = StepState.FAILED, "the slot has begun" if began else "the slot is another user's now"
        elif not spell.dry_run:
            run.check()
            try:
                await self.booking.cancel(step)
            except (Rejected, ContractBroken) as problem:
                state, error = StepState.FAILED, str(problem)
                self.telemetry.critical(problem.reason, problem)
            except NeighbourError as problem:
                return self.telemetry.critical(problem.reason, problem)
        async with run.write() as connection:
            await idle_spells.settle_steps(connection, spell.id, step.slots, state, error)
        if state is StepState.DONE and not spell.dry_run:
            run.notes.cancelled.extend((spell.holder, slot) for slot in step.slots)
        return None

    def _current_may_go(self, spell: Spell, slot: Slot) -> bool:
        return self.surveyor.policy.idle(spell.model_name).cancel_current and slot.start <= spell.opened_at

    async def _stop(self, run: Run, spell: Spell, survey: Survey) -> None:
        """The model is used: leave the rest alone, and tell exactly what was cancelled."""
        steps = await self._steps(run, spell)
        left = [step.slot for step in steps if step.state is StepState.PLANNED]
        async with run.write() as connection:
            await idle_spells.settle_steps(connection, spell.id, left, StepState.STOPPED)
        if any(step.state is StepState.DONE for step in steps):
            await self._finish(run, spell, Reason.USED_AGAIN, survey.at, uninstalled=False)
        else:
            verdict = Verdict(Decision.WITHDRAW, Reason.USED_AGAIN)
            await self.ending.withdraw(run, spell, survey.explained(spell.holder, verdict))

    async def _finish(self, run: Run, spell: Spell, reason: Reason, at: datetime, *, uninstalled: bool) -> None:
        steps = await self._steps(run, spell)
        done = [step.slot for step in steps if step.state is StepState.DONE]
        failed = [step.slot for step in steps if step.state is StepState.FAILED]
        partly = _partly(spell, reason, at, {"slots": len(steps), "done": len(done), "failed": len(failed)})
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.ENFORCED, reason, run.now):
                return
            await self.ending.tell(connection, run, spell, events.CANCELLED, Outcome(done, failed, uninstalled))
            await self.audit.act(connection, *partly)
        for finding in partly:
            self.audit.told(run, finding)
        if done and not spell.dry_run:
            self.telemetry.cancelled(len(done))
        bound = logger.bind(event="enforced", reason=str(reason), user_id=str(spell.user.id), failed=len(failed))
        bound.info("{} slots of {} cancelled, uninstalled: {}", len(done), spell.model_name, uninstalled)

    async def _uninstall(self, run: Run, spell: Spell) -> bool | None:
        """Whether the model was uninstalled for this spell; None while that is not settled."""
        async with run.read() as connection:
            command = await ledger.of_spell(connection, spell.id)
        if command is not None:
            return None if command.unfinished else command.state is CommandState.COMPLETED
        if not self.surveyor.policy.idle(spell.model_name).uninstall:
            return False
        survey = await self.surveyor.look_again(run, spell.holder)
        if not survey.seen.known(spell.model_name):
            return None
        bar, model = survey.end_bar(spell), survey.fleet.by_id.get(spell.model_id)
        if bar is None and model is not None:
            return await self._plan_uninstall(run, survey, spell, model)
        self.audit.hold(run, survey, spell.holder, bar or Reason.MODEL_GONE)
        return False

    async def _plan_uninstall(self, run: Run, survey: Survey, spell: Spell, model: ServedModel) -> bool | None:
        intent = intend(uuid4(), model, CommandKind.UNINSTALL, None, None, run.now, dry_run=spell.dry_run)
        intent = replace(intent, spell_id=spell.id)
        finding = survey.finding(spell.holder, Decision.UNINSTALL, Reason.DEADLINE_PASSED)
        async with run.write() as connection:
            recorded = await ledger.plan(connection, [intent], {intent.id: Reason.DEADLINE_PASSED})
            if recorded:
                await self.audit.act(connection, finding)
        if not recorded:
            return await self._blocked(run, spell)
        self.audit.told(run, finding)
        await self.commands.send_all(run, [intent])
        return False if spell.dry_run else None

    async def _blocked(self, run: Run, spell: Spell) -> bool | None:
        """Another command for the model is unfinished: wait for it, unless it is stuck."""
        async with run.read() as connection:
            blocking: list[Command] = await ledger.unfinished(connection)
        stuck = any(command.model_id == spell.model_id and command.state is CommandState.STUCK for command in blocking)
        return False if stuck else None


def _partly(spell: Spell, reason: Reason, at: datetime, numbers: Numbers) -> list[Finding]:
    """What is to be audited about a cancelling that did not go as it was decided."""
    if reason is not Reason.USED_AGAIN and not numbers["failed"]:
        return []
    why = Reason.USED_AGAIN if reason is Reason.USED_AGAIN else Reason.REFUSED
    return [Finding(at, spell.model_id, spell.model_name, spell.user.id, Decision.CANCEL, why, numbers)]


def _deletes(steps: Sequence[Step]) -> list[Cancellation]:
    """The DELETEs still to be sent: one per whole reservation, else one per slot."""
    left = [step for step in steps if step.state is StepState.PLANNED]
    whole = sorted((step for step in left if step.whole), key=lambda step: step.slot.reservation_id)
    grouped = [
        Cancellation(reservation_id, tuple(step.slot for step in group), whole=True)
        for reservation_id, group in groupby(whole, key=lambda step: step.slot.reservation_id)
    ]
    single = [Cancellation(step.slot.reservation_id, (step.slot,), whole=False) for step in left if not step.whole]
    return sorted(grouped + single, key=lambda delete: delete.slots[0].start)
