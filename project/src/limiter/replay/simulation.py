"""The service without its external services: the policy and what it remembers, in the memory of one process."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

from limiter.domain.deciding import decide_fleet
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, last_known_fleet
from limiter.domain.folding import fold
from limiter.domain.idle_spell import SpellState
from limiter.domain.renaming import with_former_use
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.surge import is_surge, turned_idle
from limiter.domain.usage import Scrape
from limiter.domain.verdict import Verdict, open_spell
from limiter.replay.enforcement import Found, SimulatedEnforcement


@dataclass
class Simulation(SimulatedEnforcement):
    """The service's jobs over that state."""

    def tick(
        self, at: datetime, scrapes: Sequence[Scrape], fleet: Fleet | None, booked: frozenset[UUID] = frozenset()
    ) -> Found:
        """rps_check: remember the readings, and decide about the fleet, unless the registry did not answer."""
        states = self.scaling_states
        known = last_known_fleet(states.values()) if fleet is None else fleet.with_last_known(states.values())
        observation = fold(self.memory, scrapes, known.replicas_by_name.keys(), at, self.policy.window)
        observation = with_former_use(observation, known, states, self.settled)
        self.memory = observation.memory
        if fleet is None:
            return []
        decided = decide_fleet(
            self.policy, known, observation, states, self.commands, at, self.saga_seconds, booked, self.settled
        )
        self._remember(known, decided)
        for one in decided.decided:
            if one.acts:
                self._command(one.model, one.kind, one.verdict.replicas, at)
        return [one.record for one in decided.decided if one.record is not None]

    def warn(self, snapshot: Snapshot, unaddressed: Collection[BookingKey] = (), *, delivers: bool = True) -> Found:
        """idle_warning; the `unaddressed` cannot be warned. A warning is delivered at once, or later by `delivered`."""
        found: Found = []
        self.lasting = self.lasting.after(snapshot)
        spells = snapshot.prior.spells
        on_spells = {k: snapshot.verdict_on(one) for k, one in spells.items() if one.state is not SpellState.ENFORCING}
        verdicts = self.lasting.verdicts() | on_spells
        surging = self.surging if self.surging and self._turn_idle_at_once(snapshot, verdicts) else ()
        for key, verdict in verdicts.items():
            spell = spells.get(key)
            if verdict.decision is Decision.WARN and key in surging:
                self._wait(found, snapshot, key, replace(verdict, decision=Decision.HOLD, reason=Reason.SURGE))
            elif verdict.decision is Decision.WARN and key in unaddressed:
                record = snapshot.verdict_record(key, verdict)
                self._hold(found, key, replace(record, decision=Decision.HOLD, reason=Reason.ADDRESS_UNKNOWN))
            elif verdict.decision is Decision.WARN:
                self._act(found, key, snapshot.verdict_record(key, verdict))
                self._open(snapshot, key, verdict, delivers=delivers)
            elif spell is not None and verdict.decision is Decision.WITHDRAW:
                self._withdraw(found, snapshot, spell, verdict, snapshot.at)
            elif verdict.decision is Decision.HOLD and not self._stands(key, verdict):
                self._wait(found, snapshot, key, self.lasting.renewed(snapshot, key, verdict))
        return found

    def _turn_idle_at_once(self, snapshot: Snapshot, verdicts: Mapping[BookingKey, Verdict]) -> bool:
        """Whether too many would be warned."""
        new, policy = turned_idle(verdicts, self.standing), self.policy
        return is_surge(new, len(snapshot.active_bookings), policy.surge_min, policy.surge_share)

    def _open(self, snapshot: Snapshot, key: BookingKey, verdict: Verdict, *, delivers: bool) -> None:
        booking, dry = snapshot.users[key].at(snapshot.at), self.policy.dry_run
        self.spells[key] = open_spell(uuid4(), booking, verdict, snapshot.at, delivered=delivers, dry_run=dry)
