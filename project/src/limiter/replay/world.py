"""The service without its neighbours: the policy, and what it remembers, in the memory of one process."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from limiter.domain.action import Command, CommandKind, CommandState, Decision, Reason, intend
from limiter.domain.audit import Finding, standing_of
from limiter.domain.deciding import Round, decide_fleet
from limiter.domain.fleet import Fleet, ServedModel, Sighting, last_seen
from limiter.domain.folding import fold
from limiter.domain.idleness import Spell, SpellState, Verdict, open_spell
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Cancellation, Slot, cancellations
from limiter.domain.survey import Holder, Past, Survey, survey
from limiter.domain.usage import Memory, Scrape

Again = Callable[[Holder], Survey]


@dataclass(frozen=True, slots=True)
class Cut:
    """One slot that is cancelled for a holder."""

    at: datetime
    holder: Holder
    slot: Slot


@dataclass
class World:
    """Everything the service keeps in Postgres, and its jobs over it; every act succeeds at once."""

    policy: Policy
    memory: Memory = field(default_factory=Memory)
    sightings: dict[UUID, Sighting] = field(default_factory=dict)
    commands: dict[UUID, Command] = field(default_factory=dict)
    spells: dict[Holder, Spell] = field(default_factory=dict)
    closed: dict[Holder, datetime] = field(default_factory=dict)
    standing: dict[Holder, str] = field(default_factory=dict)
    resumed_at: datetime | None = None
    left: dict[UUID, list[Cancellation]] = field(default_factory=dict)  # by spell: the DELETEs still to be sent
    cuts: list[Cut] = field(default_factory=list)
    planned: list[Command] = field(default_factory=list)
    followed: set[Holder] = field(default_factory=set)  # whose cancelling ends when somebody says so, by `end`
    over: set[UUID] = field(default_factory=set)  # the spells that only wait for that

    def tick(self, at: datetime, scrapes: Sequence[Scrape], fleet: Fleet | None) -> list[Finding]:
        """rps_check: remember the readings, and decide about the fleet, unless the registry did not answer."""
        names = (fleet or last_seen(self.sightings.values())).replicas_by_name.keys()
        seen = fold(self.memory, scrapes, names, at, self.policy.window)
        self.memory = seen.memory
        if fleet is None:
            return []
        decided = decide_fleet(self.policy, fleet, seen, self.sightings, self.commands, at)
        self._remember(fleet, decided)
        for one in decided.decided:
            if one.acts:
                self._command(one.model, one.kind, one.verdict.replicas, at)
        return [one.finding for one in decided.decided if one.finding is not None]

    def _remember(self, fleet: Fleet, decided: Round) -> None:
        changed = {one.model.id: one.verdict.sighting for one in decided.decided}
        if fleet.complete and len(self.sightings | changed) > len(fleet.models):
            self.sightings = {seen.model_id: seen for seen in decided.settled}
        self.sightings = self.sightings | changed

    def _command(self, model: ServedModel, kind: CommandKind, replicas: int | None, at: datetime) -> Command:
        last, dry = self.commands.get(model.id), self.policy.dry_run
        self.commands[model.id] = command = intend(uuid4(), model, kind, replicas, last, at, dry_run=dry)
        self.planned.append(command)
        return command

    def look(
        self,
        at: datetime,
        scrapes: Sequence[Scrape],
        fleet: Fleet,
        bookings: Bookings,
        memory: Memory | None = None,
        only: Holder | None = None,
    ) -> Survey:
        """What an idle job sees at `at`; `memory` is what was remembered then, if not what is now."""
        past = Past(self.sightings, dict(self.spells), dict(self.closed), dict(self.standing), self.resumed_at)
        return survey(self.policy, fleet, bookings, scrapes, memory or self.memory, past, at, only)

    def warn(self, look: Survey, unaddressed: Collection[Holder] = (), *, delivers: bool = True) -> list[Finding]:
        """idle_warning; nobody of the `unaddressed` can be warned, and a warning is delivered at once, or by hand."""
        found: list[Finding] = []
        lost = [holder for holder in look.past.spells if holder not in look.holdings]
        for holder in (*look.holdings, *lost):
            hold, spell = look.holdings.get(holder), look.past.spells.get(holder)
            verdict = look.judged(hold, spell)
            if verdict is None or (spell is not None and spell.state is SpellState.ENFORCING):
                continue
            match verdict.decision:
                case Decision.WARN if holder in unaddressed:
                    finding = look.explained(holder, verdict)
                    unknown = replace(finding, decision=Decision.HOLD, reason=Reason.ADDRESS_UNKNOWN)
                    self._hold(found, holder, unknown)
                case Decision.WARN:
                    self._act(found, holder, look.explained(holder, verdict))
                    self.spells[holder] = open_spell(
                        uuid4(),
                        look.holdings[holder],
                        verdict,
                        look.at,
                        delivered=delivers,
                        dry_run=self.policy.dry_run,
                    )
                case Decision.WITHDRAW | Decision.EXPIRE if spell is not None:
                    self._close(found, look, spell, verdict, look.at)
                case Decision.HOLD:
                    self._wait(found, look, holder, verdict)
        return found

    def delivered(self, holder: Holder, at: datetime) -> None:
        """The broker has confirmed the warning."""
        spell = self.spells[holder]
        if spell.state is SpellState.WARNING_PENDING:
            self.spells[holder] = replace(spell, state=SpellState.WARNED, delivered_at=at)

    def enforce(
        self, look: Survey | None, again: Again, at: datetime, of: Collection[Holder] | None = None
    ) -> list[Finding]:
        """idle_enforce; `look` is the sweep over all, `again` the fresh look right before harm is done.

        With `of`, only these holders' spells are looked at.
        """
        found: list[Finding] = []
        ours = (spell for spell in self.spells.values() if of is None or spell.holder in of)
        spells = sorted(ours, key=lambda spell: (spell.opened_at, spell.holder))
        for spell in spells:
            over = spell.id in self.over
            if spell.state is SpellState.ENFORCING and not over and spell.dry_run >= self.policy.dry_run:
                self._go_on(found, spell, None, again, at)
        begun = 0
        for spell in (spell for spell in spells if look and spell.state is SpellState.WARNED):
            assert look is not None
            verdict = look.verdict_on(spell)
            if verdict.decision is not Decision.CANCEL:
                self._end_or_wait(found, look, spell, verdict, at)
            elif begun >= self.policy.enforce_per_run:
                waits = look.explained(spell.holder, replace(verdict, decision=Decision.HOLD, reason=Reason.RUN_LIMIT))
                # As the service words it: the numbers are those of a wait.
                self._hold(found, spell.holder, waits)
            else:
                begun += 1
                self._begin(found, spell, again, at)
        return found

    def _begin(self, found: list[Finding], spell: Spell, again: Again, at: datetime) -> None:
        look = again(spell.holder)
        verdict = look.verdict_on(spell)
        if verdict.decision is not Decision.CANCEL:
            return self._end_or_wait(found, look, spell, verdict, at)
        self._act(found, spell.holder, look.explained(spell.holder, verdict))
        self.spells[spell.holder] = enforcing = replace(spell, state=SpellState.ENFORCING)
        self.left[spell.id] = cancellations(look.bookings, verdict.slots)
        return self._go_on(found, enforcing, look, again, at)

    def _go_on(self, found: list[Finding], spell: Spell, fresh: Survey | None, again: Again, at: datetime) -> None:
        while left := self.left.get(spell.id):
            look = fresh or again(spell.holder)
            fresh = None
            if not look.seen.known(spell.model_name):
                return
            if look.used_since(spell):
                return self._stop(found, spell, look, at)
            self.cuts.extend(Cut(look.at, spell.holder, slot) for slot in left.pop(0).slots)
        if self._uninstalled(found, spell, again, at):
            self._finish(spell, at)

    def _stop(self, found: list[Finding], spell: Spell, look: Survey, at: datetime) -> None:
        done = [cut for cut in self.cuts if cut.holder == spell.holder and cut.at >= spell.opened_at]
        left = self.left.pop(spell.id)
        if not done:
            return self._close(found, look, spell, Verdict(Decision.WITHDRAW, Reason.USED_AGAIN), at)
        numbers = {"slots": len(done) + sum(len(step.slots) for step in left), "done": len(done), "failed": 0}
        self._act(found, spell.holder, look.finding(spell.holder, Decision.CANCEL, Reason.USED_AGAIN, numbers))
        return self._finish(spell, at)

    def _uninstalled(self, found: list[Finding], spell: Spell, again: Again, at: datetime) -> bool:
        """True if nothing about an uninstall is left to wait for."""
        command = self.commands.get(spell.model_id)
        if command is not None and command.spell_id == spell.id:
            return not command.unfinished
        if not self.policy.idle(spell.model_name).uninstall:
            return True
        look = again(spell.holder)
        if not look.seen.known(spell.model_name):
            return False
        bar, model = look.end_bar(spell), look.fleet.by_id.get(spell.model_id)
        if bar is not None or model is None:
            held = look.finding(spell.holder, Decision.HOLD, bar or Reason.MODEL_GONE)
            self._hold(found, spell.holder, held)
            return True
        if command is not None and command.unfinished:
            return command.state is CommandState.STUCK
        self._act(found, spell.holder, look.finding(spell.holder, Decision.UNINSTALL, Reason.DEADLINE_PASSED))
        planned = self._command(model, CommandKind.UNINSTALL, None, at)
        self.commands[model.id] = replace(planned, spell_id=spell.id, failures=0)
        return spell.dry_run

    def _finish(self, spell: Spell, at: datetime) -> None:
        self.left.pop(spell.id, None)
        if spell.holder in self.followed:
            self.over.add(spell.id)
        else:
            self.end(spell.holder, at)

    def end(self, holder: Holder, at: datetime) -> None:
        """The cancelling for this holder is over."""
        del self.spells[holder]
        self.closed[holder] = at

    def _end_or_wait(self, found: list[Finding], look: Survey, spell: Spell, verdict: Verdict, at: datetime) -> None:
        if verdict.decision in (Decision.WITHDRAW, Decision.EXPIRE):
            self._close(found, look, spell, verdict, at)
        else:
            self._wait(found, look, spell.holder, verdict)

    def _close(self, found: list[Finding], look: Survey, spell: Spell, verdict: Verdict, at: datetime) -> None:
        self._act(found, spell.holder, look.explained(spell.holder, verdict))
        del self.spells[spell.holder]
        self.closed[spell.holder] = at

    def _wait(self, found: list[Finding], look: Survey, holder: Holder, verdict: Verdict) -> None:
        if self.standing.get(holder) != standing_of(verdict.decision, verdict.reason):
            self._hold(found, holder, look.explained(holder, verdict))

    def _act(self, found: list[Finding], holder: Holder, finding: Finding) -> None:
        self.standing[holder] = standing_of(finding.decision, finding.reason)
        found.append(finding)

    def _hold(self, found: list[Finding], holder: Holder, finding: Finding) -> None:
        if self.standing.get(holder) != standing_of(finding.decision, finding.reason):
            self._act(found, holder, finding)
