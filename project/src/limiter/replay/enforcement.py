"""idle_enforce over the memory of one process: the steps that `next_step` says, taken at once."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from limiter.domain.audit import DecisionRecord
from limiter.domain.closing import Close, Tell, closing_records
from limiter.domain.command import CommandKind, backoff
from limiter.domain.decision import Decision, Reason
from limiter.domain.enforcement import Delete, NextStep, Settle, Stop, Uninstall, Wait, next_reservation, next_step
from limiter.domain.idle_spell import (
    OPEN_STEPS,
    IdleSpell,
    SpellState,
    Step,
    StepState,
    as_booked,
    booked_elsewhere,
    planned_steps,
)
from limiter.domain.reservations import Slot
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.step_facts import step_facts
from limiter.domain.surge import bookings_since, is_surge
from limiter.domain.verdict import Verdict
from limiter.replay.state import Cut, SimulatedState

Again = Callable[[BookingKey], Snapshot | None]
Found = list[DecisionRecord]


def _carried_out(_: Delete) -> None:
    return None


def _free() -> bool:
    return False


@dataclass
class SimulatedEnforcement(SimulatedState):
    """idle_enforce over that state; every action succeeds at once.

    Unless `refuses` says what becomes of a DELETE instead (`PLANNED`: refused for now), or `braked` that no step is to
    be taken. `closings` is how each spell ended, `surging` whom a surge held back that nobody has allowed.
    """

    refuses: Callable[[Delete], StepState | None] = _carried_out
    braked: Callable[[], bool] = _free
    closings: list[tuple[IdleSpell, Tell | Close]] = field(default_factory=list)
    surging: set[BookingKey] = field(default_factory=set)
    begun_at: dict[BookingKey, datetime] = field(default_factory=dict)

    def enforce(
        self, sweep: Snapshot | None, again: Again, at: datetime, of: Collection[BookingKey] | None = None
    ) -> Found:
        """idle_enforce; `sweep` is the snapshot of all, `again` reads the fresh snapshot before each step.

        None of it: no further step is taken now. With `of`, only these bookings are looked at.
        """
        found: Found = []
        ours = [spell for spell in self.spells.values() if of is None or spell.key in of]
        ours.sort(key=lambda spell: (spell.state is not SpellState.ENFORCING, spell.opened_at, spell.key))
        begun = 0
        for spell in ours if sweep is not None else ():
            assert sweep is not None
            if self.braked():
                break
            if spell.state is SpellState.ENFORCING:
                self._go_on(found, spell, again, at)
            elif spell.state is SpellState.WARNED:
                begun += self._begin(found, sweep, spell, again, at, begun)
        return found

    def _begin(self, found: Found, sweep: Snapshot, spell: IdleSpell, again: Again, at: datetime, begun: int) -> bool:
        """Cancel if both snapshots say so; true if it was begun."""
        verdict = sweep.verdict_on(spell)
        if verdict.decision is Decision.CANCEL and begun >= self.policy.enforce_per_run:
            verdict = replace(verdict, decision=Decision.HOLD, reason=Reason.RUN_LIMIT)
        elif verdict.decision is Decision.CANCEL and spell.key in self.surging and self._is_surge(sweep, at):
            verdict = replace(verdict, decision=Decision.HOLD, reason=Reason.SURGE)
        fresh = (again(spell.key) if verdict.decision is Decision.CANCEL else None) or sweep
        verdict = fresh.verdict_on(spell) if verdict.decision is Decision.CANCEL else verdict
        if verdict.decision is not Decision.CANCEL:
            self._end_or_wait(found, fresh, spell, verdict, at)
            return False
        self._act(found, spell.key, fresh.verdict_record(spell.key, verdict))
        booked = as_booked(spell, fresh.bookings)
        steps = planned_steps(booked.steps, verdict.slots, booked_elsewhere(spell, fresh.bookings), fresh.at)
        spell = replace(spell, state=SpellState.ENFORCING, steps=steps, enforcing_at=at)
        self.spells[spell.key] = spell
        self.begun_at[spell.key] = at
        self._go_on(found, spell, again, at)
        return True

    def _is_surge(self, sweep: Snapshot, at: datetime) -> bool:
        """Whether one more cancelling would be too many at once."""
        policy, since = self.policy, at - self.policy.surge_window
        begun = {key for key, begun in self.begun_at.items() if begun > since}
        among = len(bookings_since(sweep, since) | begun)
        return is_surge(len(begun) + 1, among, policy.surge_min, policy.surge_share)

    def _go_on(self, found: Found, spell: IdleSpell, again: Again, at: datetime) -> None:
        """Take steps until the spell is closed or has to wait."""
        while not self.braked():
            snapshot = again(spell.key)
            if snapshot is None:
                return
            now = snapshot.prior.spells.get(spell.key, spell)
            if now.id != spell.id:
                return
            spell = as_booked(now, snapshot.bookings)
            facts = step_facts(snapshot, spell, next_reservation(spell, snapshot.at))
            step = next_step(spell, facts, self.policy.idle(spell.model_name))
            if not self._taken(found, snapshot, spell, step, at):
                return

    def _taken(self, found: Found, snapshot: Snapshot, spell: IdleSpell, step: NextStep, at: datetime) -> bool:
        """Take one step; false if there is nothing more to do for the spell now."""
        match step:
            case Delete():
                self._delete(spell, step, snapshot.at)
            case Settle():
                self._settle(spell, step.slots, step.state, snapshot.at)
            case Stop():
                self._settle(replace(spell, stopped_for=step.reason), spell.named, StepState.STOPPED, snapshot.at)
            case Uninstall():
                return self._uninstall(found, snapshot, spell, step, at)
            case Tell() | Close():
                self.closings.append((spell, step))
                for record in closing_records(spell, step, snapshot.at):
                    self._act(found, spell.key, record)
                self._close(spell.key, at)
                return False
            case Wait():
                self._hold(found, spell.key, snapshot.record(spell.key, Decision.HOLD, step.reason))
                return False
            case _:
                assert_never(step)
        return True

    def _delete(self, spell: IdleSpell, delete: Delete, at: datetime) -> None:
        """One DELETE; a step that is refused for now stays planned, and is tried again later."""
        if spell.dry_run:
            return self._settle(spell, delete.slots, StepState.DONE, at)
        state = self.refuses(delete) or StepState.DONE
        pacing = self.policy.pacing_of(spell.model_name)
        tries = 1 + max(step.attempts for step in spell.steps if step.slot in delete.slots)
        later = at + backoff(tries, pacing.backoff_first, pacing.backoff_longest)

        def tried(step: Step) -> Step:
            if step.slot not in delete.slots or step.state is not StepState.PLANNED:
                return step
            retry = later if state is StepState.PLANNED else step.next_try_at
            return replace(step, attempts=step.attempts + 1, next_try_at=retry)

        spell = replace(spell, steps=tuple(map(tried, spell.steps)))
        self._settle(spell, delete.slots, state, at)
        if state is StepState.DONE:
            self.cuts.extend(Cut(at, spell.key, slot) for slot in delete.slots)
        return None

    def _settle(self, spell: IdleSpell, slots: Collection[Slot], state: StepState, at: datetime) -> None:
        steps = tuple(
            replace(step, state=state) if step.slot in slots and step.state in OPEN_STEPS else step
            for step in spell.steps
        )
        spell = replace(spell, steps=steps)
        over = not spell.slots(StepState.PLANNED) and spell.settled_at is None
        self.spells[spell.key] = replace(spell, settled_at=at) if over else spell

    def _uninstall(self, found: Found, snapshot: Snapshot, spell: IdleSpell, step: Uninstall, at: datetime) -> bool:
        command = self.commands.get(step.model.id)
        if command is not None and command.unfinished:
            self._hold(found, spell.key, snapshot.record(spell.key, Decision.HOLD, Reason.COMMAND_UNFINISHED))
            return False
        self._act(found, spell.key, snapshot.record(spell.key, Decision.UNINSTALL, Reason.DEADLINE_PASSED))
        planned = self._command(step.model, CommandKind.UNINSTALL, None, snapshot.at)
        self.commands[step.model.id] = replace(planned, spell_id=spell.id)
        return True

    def _end_or_wait(self, found: Found, snapshot: Snapshot, spell: IdleSpell, verdict: Verdict, at: datetime) -> None:
        if verdict.decision is Decision.WITHDRAW:
            self._withdraw(found, snapshot, spell, verdict, at)
        else:
            self._wait(found, snapshot, spell.key, verdict)

    def _withdraw(self, found: Found, snapshot: Snapshot, spell: IdleSpell, verdict: Verdict, at: datetime) -> None:
        self.closings.append((spell, Close(verdict.reason)))
        self._act(found, spell.key, snapshot.verdict_record(spell.key, verdict))
        self._close(spell.key, at)
