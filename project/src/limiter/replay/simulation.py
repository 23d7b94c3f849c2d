"""The service without its external services: the policy and what it remembers, in the memory of one process."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from limiter.domain.audit import DecisionRecord
from limiter.domain.command import CommandKind, CommandState
from limiter.domain.deciding import decide_fleet
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, last_known_fleet
from limiter.domain.folding import fold
from limiter.domain.idleness import IdleSpell, SpellState, Verdict, open_spell
from limiter.domain.reservations import deletes
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import Scrape
from limiter.replay.state import Cut, SimulatedState

Again = Callable[[BookingKey], Snapshot]


@dataclass
class Simulation(SimulatedState):
    """The service's jobs over that state; every action succeeds at once."""

    def tick(self, at: datetime, scrapes: Sequence[Scrape], fleet: Fleet | None) -> list[DecisionRecord]:
        """rps_check: remember the readings, and decide about the fleet, unless the registry did not answer."""
        names = (fleet or last_known_fleet(self.scaling_states.values())).replicas_by_name.keys()
        observation = fold(self.memory, scrapes, names, at, self.policy.window)
        self.memory = observation.memory
        if fleet is None:
            return []
        decided = decide_fleet(self.policy, fleet, observation, self.scaling_states, self.commands, at)
        self._remember(fleet, decided)
        for one in decided.decided:
            if one.acts:
                self._command(one.model, one.kind, one.verdict.replicas, at)
        return [one.record for one in decided.decided if one.record is not None]

    def warn(
        self, snapshot: Snapshot, unaddressed: Collection[BookingKey] = (), *, delivers: bool = True
    ) -> list[DecisionRecord]:
        """idle_warning; the `unaddressed` cannot be warned. A warning is delivered at once, or later by `delivered`."""
        found: list[DecisionRecord] = []
        lost = [key for key in snapshot.prior.spells if key not in snapshot.active_bookings]
        for key in (*snapshot.active_bookings, *lost):
            booking, spell = snapshot.active_bookings.get(key), snapshot.prior.spells.get(key)
            verdict = snapshot.judged(booking, spell)
            if verdict is None or (spell is not None and spell.state is SpellState.ENFORCING):
                continue
            match verdict.decision:
                case Decision.WARN if key in unaddressed:
                    record = snapshot.verdict_record(key, verdict)
                    unknown = replace(record, decision=Decision.HOLD, reason=Reason.ADDRESS_UNKNOWN)
                    self._hold(found, key, unknown)
                case Decision.WARN:
                    self._act(found, key, snapshot.verdict_record(key, verdict))
                    self.spells[key] = open_spell(
                        uuid4(),
                        snapshot.active_bookings[key],
                        verdict,
                        snapshot.at,
                        delivered=delivers,
                        dry_run=self.policy.dry_run,
                    )
                case Decision.WITHDRAW | Decision.EXPIRE if spell is not None:
                    self._close(found, snapshot, spell, verdict, snapshot.at)
                case Decision.HOLD:
                    self._wait(found, snapshot, key, verdict)
        return found

    def enforce(
        self, snapshot: Snapshot | None, again: Again, at: datetime, of: Collection[BookingKey] | None = None
    ) -> list[DecisionRecord]:
        """idle_enforce; `snapshot` is the sweep over all, `again` reads the fresh snapshot before each step.

        With `of`, only these keys' spells are looked at.
        """
        found: list[DecisionRecord] = []
        ours = (spell for spell in self.spells.values() if of is None or spell.key in of)
        spells = sorted(ours, key=lambda spell: (spell.opened_at, spell.key))
        for spell in spells:
            over = spell.id in self.over
            if spell.state is SpellState.ENFORCING and not over and spell.dry_run >= self.policy.dry_run:
                self._go_on(found, spell, None, again, at)
        begun = 0
        for spell in (spell for spell in spells if snapshot and spell.state is SpellState.WARNED):
            assert snapshot is not None
            verdict = snapshot.verdict_on(spell)
            if verdict.decision is not Decision.CANCEL:
                self._end_or_wait(found, snapshot, spell, verdict, at)
            elif begun >= self.policy.enforce_per_run:
                waits = snapshot.verdict_record(
                    spell.key, replace(verdict, decision=Decision.HOLD, reason=Reason.RUN_LIMIT)
                )
                # As the service words it: the numbers are those of a wait.
                self._hold(found, spell.key, waits)
            else:
                begun += 1
                self._begin(found, spell, again, at)
        return found

    def _begin(self, found: list[DecisionRecord], spell: IdleSpell, again: Again, at: datetime) -> None:
        snapshot = again(spell.key)
        verdict = snapshot.verdict_on(spell)
        if verdict.decision is not Decision.CANCEL:
            return self._end_or_wait(found, snapshot, spell, verdict, at)
        self._act(found, spell.key, snapshot.verdict_record(spell.key, verdict))
        self.spells[spell.key] = enforcing = replace(spell, state=SpellState.ENFORCING)
        self.left[spell.id] = deletes(snapshot.bookings, verdict.slots)
        return self._go_on(found, enforcing, snapshot, again, at)

    def _go_on(
        self, found: list[DecisionRecord], spell: IdleSpell, fresh: Snapshot | None, again: Again, at: datetime
    ) -> None:
        while left := self.left.get(spell.id):
            snapshot = fresh or again(spell.key)
            fresh = None
            if not snapshot.observation.known(spell.model_name):
                return
            if snapshot.used_since(spell):
                return self._stop(found, spell, snapshot, at)
            self.cuts.extend(Cut(snapshot.at, spell.key, slot) for slot in left.pop(0).slots)
        if self._uninstalled(found, spell, again, at):
            self._finish(spell, at)

    def _stop(self, found: list[DecisionRecord], spell: IdleSpell, snapshot: Snapshot, at: datetime) -> None:
        done = [cut for cut in self.cuts if cut.key == spell.key and cut.at >= spell.opened_at]
        left = self.left.pop(spell.id)
        if not done:
            return self._close(found, snapshot, spell, Verdict(Decision.WITHDRAW, Reason.USED_AGAIN), at)
        numbers = {"slots": len(done) + sum(len(step.slots) for step in left), "done": len(done), "failed": 0}
        self._act(found, spell.key, snapshot.record(spell.key, Decision.CANCEL, Reason.USED_AGAIN, numbers))
        return self._finish(spell, at)

    def _uninstalled(self, found: list[DecisionRecord], spell: IdleSpell, again: Again, at: datetime) -> bool:
        """True if no uninstall is awaited."""
        command = self.commands.get(spell.model_id)
        if command is not None and command.spell_id == spell.id:
            return not command.unfinished
        if not self.policy.idle(spell.model_name).uninstall:
            return True
        snapshot = again(spell.key)
        if not snapshot.observation.known(spell.model_name):
            return False
        blocker, model = snapshot.uninstall_blocker(spell), snapshot.fleet.by_id.get(spell.model_id)
        if blocker is not None or model is None:
            held = snapshot.record(spell.key, Decision.HOLD, blocker or Reason.MODEL_GONE)
            self._hold(found, spell.key, held)
            return True
        if command is not None and command.unfinished:
            return command.state is CommandState.STUCK
        self._act(found, spell.key, snapshot.record(spell.key, Decision.UNINSTALL, Reason.DEADLINE_PASSED))
        planned = self._command(model, CommandKind.UNINSTALL, None, at)
        self.commands[model.id] = replace(planned, spell_id=spell.id, failures=0)
        return spell.dry_run

    def _finish(self, spell: IdleSpell, at: datetime) -> None:
        self.left.pop(spell.id, None)
        if spell.key in self.followed:
            self.over.add(spell.id)
        else:
            self.end(spell.key, at)

    def _end_or_wait(
        self, found: list[DecisionRecord], snapshot: Snapshot, spell: IdleSpell, verdict: Verdict, at: datetime
    ) -> None:
        if verdict.decision in (Decision.WITHDRAW, Decision.EXPIRE):
            self._close(found, snapshot, spell, verdict, at)
        else:
            self._wait(found, snapshot, spell.key, verdict)
