"""One tick's decisions about the whole fleet: the same code for the service and for a replay of its readings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import inf
from typing import NamedTuple
from uuid import UUID

from limiter.domain.audit import Computed, DecisionRecord, Numbers, standing_of
from limiter.domain.budget import Grant, Wish, granted, others_of, whose
from limiter.domain.command import Command, CommandKind
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.load import Load, Loads
from limiter.domain.policy import Policy
from limiter.domain.scaling import ScaleDecision, decide, numbers, scaling_state
from limiter.domain.scaling_rule import ScalingRule
from limiter.domain.settled import Settled, settled
from limiter.domain.usage import Observation


class ModelDecision(NamedTuple):
    """The decision about one model; `record` is None while it is the one that already stands."""

    model: ServedModel
    verdict: ScaleDecision
    record: DecisionRecord | None

    @property
    def acts(self) -> bool:
        return self.verdict.decision is not Decision.HOLD

    @property
    def kind(self) -> CommandKind:
        """The command that the decision to scale asks for."""
        return CommandKind(self.verdict.decision.value)


class FleetDecisions(NamedTuple):
    """The decisions about a fleet; of its `settled` models nothing changes, not even what is remembered."""

    decided: list[ModelDecision]
    settled: int
    unsettled: frozenset[str] = frozenset()  # the names of which some model is not settled after this
    short: bool = False  # the budget did not grant everything
    rests_on: frozenset[UUID] = frozenset()  # the models whose last commands matter to those that are sent now

    def counts(self) -> Counter[tuple[Decision, Reason]]:
        """How often each decision was taken for each reason."""
        # Of words, not of pairs: to hash two enums takes ten times as long.
        words = Counter(one.verdict.decision + " " + one.verdict.reason for one in self.decided)
        counts = Counter({(Decision(d), Reason(r)): n for word, n in words.items() for d, r in [word.split(" ")]})
        counts[Decision.HOLD, Reason.WITHIN_TARGET] += self.settled
        return +counts

    def scaling_states(self) -> list[ScalingState]:
        """What to remember of every model that is not settled."""
        return [one.verdict.scaling_state for one in self.decided]


def decide_fleet(
    policy: Policy,
    fleet: Fleet,
    observation: Observation,
    scaling_states: Mapping[UUID, ScalingState],
    latest: Mapping[UUID, Command],
    now: datetime,
    saga_seconds: Mapping[str, float] | None = None,
    booked: frozenset[UUID] = frozenset(),
    before: Settled | None = None,
) -> FleetDecisions:
    """The decision for every running model at `now`; `latest` is the latest command of each.

    `saga_seconds` are how long a scale up of each name usually takes, where that is known. The `booked` are the models
    of which a slot runs now: they go first where the fleet's budget is short. `before` is what the last tick left.
    """
    waiting, loads, sagas = [], Loads(fleet, observation), saga_seconds or {}
    quiet = observation.complete and not observation.restarted
    recent = observation.recent.keys() | observation.unknown_names | observation.busy
    known = before if before and before.is_of(policy, fleet, scaling_states) and quiet else None
    for model in known.others(recent, latest) if known else fleet.models:
        remembered, rule = scaling_states.get(model.id), policy.scaling(model.name)
        idle = quiet and model.name not in recent
        if not (idle and remembered and settled(rule, model, remembered) and model.id not in latest):
            load = loads.of(model, rule, sagas.get(model.name))
            state, last = scaling_state(model, remembered, now), latest.get(model.id)
            waiting.append(_Waiting(model, rule, state, load, last, policy.pacing_of(model.name).blocks(last, now)))
    verdicts = [one.verdict(now) for one in waiting]
    short = _within_budget(policy, fleet, latest, waiting, verdicts, booked, now) if policy.budget.limits else {}
    left_out = _bound(policy.commands_per_run, waiting, verdicts, now)
    why = {n: numbers for n, numbers in short.items() if n not in left_out}
    decided = [one.recorded(verdicts[n], now, why.get(n, {})) for n, one in enumerate(waiting)]
    pairs = zip(waiting, decided, strict=True)
    left = (of.model.name for of, made in pairs if not settled(of.rule, of.model, made.verdict.scaling_state))
    rests_on = _rests_on(policy, fleet, decided)
    return FleetDecisions(decided, len(fleet.models) - len(decided), frozenset(left), bool(short), rests_on)


def _rests_on(policy: Policy, fleet: Fleet, decided: Sequence[ModelDecision]) -> frozenset[UUID]:
    """The models that get a command, and, if one goes up within a budget, all whose replicas count in it too."""
    acting = [one for one in decided if one.acts]
    if policy.budget.limits and any(one.kind is CommandKind.SCALE_UP for one in acting):
        return fleet.ids
    return frozenset(one.model.id for one in acting)


class _Waiting(NamedTuple):
    """One model that is to be decided about, and all that it is decided by."""

    model: ServedModel
    rule: ScalingRule
    before: ScalingState
    load: Load
    last: Command | None
    blocked: Reason | None

    @property
    def urgency(self) -> float:
        """How many times the replicas carry what they should; below the minimum nothing is more urgent."""
        replicas = self.before.replicas
        if replicas < self.rule.min_replicas:
            return inf
        return max(self.load.expected(self.rule.lead_most), self.load.tick) / (self.rule.target_rps * (replicas or 1))

    def verdict(self, now: datetime, blocked: Reason | None = None) -> ScaleDecision:
        found = decide(self.rule, self.before, self.load, blocked or self.blocked, now)
        if found.decision is Decision.SCALE_UP and self.before.replicas < found.replicas <= self.held:
            return found._replace(decision=Decision.HOLD, reason=Reason.COOLING_DOWN, replicas=self.before.replicas)
        return found

    @property
    def held(self) -> int:
        """What is asked for already: the registry may be late to show what a command has just made of the model."""
        last, replicas = self.last, self.model.replicas
        counts = last and (last.unfinished or self.blocked is Reason.COOLING_DOWN)
        return max(replicas, last.replicas or 0) if counts and last and last.kind is CommandKind.SCALE_UP else replicas

    def wish(self, verdict: ScaleDecision) -> Wish:
        wished = verdict.replicas if verdict.decision is Decision.SCALE_UP else 0
        return Wish(self.model, self.held, self.rule.min_replicas, wished, self.urgency)

    def _why(self, verdict: ScaleDecision, now: datetime, short: Numbers) -> Numbers:
        failures = self.last.failures if self.last else 0
        return {**numbers(self.rule, self.before, self.load, verdict, now), "failures": failures, **short}

    def recorded(self, verdict: ScaleDecision, now: datetime, short: Numbers) -> ModelDecision:
        standing = standing_of(verdict.decision, verdict.reason)
        if standing == self.before.standing and verdict.decision is Decision.HOLD:
            return ModelDecision(self.model, verdict, None)
        why = Computed(partial(self._why, verdict, now, short))
        record = DecisionRecord(now, self.model.id, self.model.name, None, verdict.decision, verdict.reason, why)
        marked = replace(verdict.scaling_state, standing=standing)
        return ModelDecision(self.model, verdict._replace(scaling_state=marked), record)


def _within_budget(
    policy: Policy,
    fleet: Fleet,
    latest: Mapping[UUID, Command],
    waiting: Sequence[_Waiting],
    verdicts: list[ScaleDecision],
    booked: frozenset[UUID],
    now: datetime,
) -> dict[int, Numbers]:
    """Change the verdicts to what the fleet's budget grants; returns why, for those that it does not grant in full."""
    asked = policy.unshown(fleet, latest.values(), now)
    others = others_of(fleet, asked, {one.model.id for one in waiting}, policy.scaling_rule.max_replicas)
    wishes = [one.wish(verdict) for one, verdict in zip(waiting, verdicts, strict=True)]
    short = {}
    for n, grant in enumerate(granted(policy.budget, others, wishes, booked)):
        if grant.full is not None:
            if grant.given > grant.wish.held:
                verdicts[n] = verdicts[n]._replace(replicas=grant.given)
            else:
                verdicts[n] = waiting[n].verdict(now, Reason.FLEET_FULL)
            short[n] = _why_short(grant)
    return short


def _why_short(grant: Grant) -> Numbers:
    asked, wished = grant.asked - grant.replicas + grant.given, grant.wish.wished
    return {"wished": wished, "granted": grant.given, "asked": asked, "budget": grant.most, "full": whose(grant)}


def _bound(most: int, waiting: Sequence[_Waiting], verdicts: list[ScaleDecision], now: datetime) -> set[int]:
    """At most so many commands, for the most overloaded; the others are held, and go on from where they are.

    Returns which are left out.
    """
    acting = [number for number, verdict in enumerate(verdicts) if verdict.decision is not Decision.HOLD]
    left_out = sorted(acting, key=lambda n: -waiting[n].urgency)[most:]
    for number in left_out:
        verdicts[number] = waiting[number].verdict(now, Reason.COMMANDS_LIMIT)
    return set(left_out)
