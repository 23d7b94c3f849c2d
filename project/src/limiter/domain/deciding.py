"""One tick's decisions about the whole fleet: the same code for the service and for a replay of its readings."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from limiter.domain.action import Command, CommandKind, Decision, Pauses, Reason
from limiter.domain.audit import Finding, standing_of
from limiter.domain.fleet import Fleet, ServedModel, Sighting
from limiter.domain.policy import Policy
from limiter.domain.scaling import Load, ScaleDecision, ScalingRule, decide, numbers, settled, sighting
from limiter.domain.usage import Observation


class Scaled(NamedTuple):
    """The decision about one model; `finding` is None while it is the one that already stands."""

    model: ServedModel
    verdict: ScaleDecision
    finding: Finding | None

    @property
    def acts(self) -> bool:
        return self.verdict.decision is not Decision.HOLD

    @property
    def kind(self) -> CommandKind:
        """The command that the decision to scale asks for."""
        return CommandKind(self.verdict.decision.value)


class Round(NamedTuple):
    """The decisions about a fleet; of the `settled` models nothing changes, not even what is remembered."""

    decided: list[Scaled]
    settled: list[Sighting]

    def counts(self) -> Counter[tuple[Decision, Reason]]:
        """How often each decision was taken for each reason."""
        counts = Counter((one.verdict.decision, one.verdict.reason) for one in self.decided)
        counts[Decision.HOLD, Reason.WITHIN_TARGET] += len(self.settled)
        return +counts

    def sightings(self) -> list[Sighting]:
        """What to remember of every model."""
        return self.settled + [one.verdict.sighting for one in self.decided]


def decide_fleet(
    policy: Policy,
    fleet: Fleet,
    seen: Observation,
    sightings: Mapping[UUID, Sighting],
    latest: Mapping[UUID, Command],
    now: datetime,
) -> Round:
    """The decision for every running model at `now`; `latest` is the latest command of each."""
    decided, still = [], []
    quiet, recent = seen.complete and not seen.restarted, seen.recent.keys() | seen.unknown_names
    for model in fleet.models:
        remembered, rule = sightings.get(model.id), policy.scaling(model.name)
        idle = quiet and model.name not in recent
        if idle and remembered and settled(rule, model, remembered) and model.id not in latest:
            still.append(remembered)
        else:
            load = load_of(model, fleet, seen, rule)
            before = sighting(model, remembered, now)
            decided.append(_decide(rule, policy.pauses, model, before, load, latest.get(model.id), now))
    return Round(decided, still)


def _decide(
    rule: ScalingRule,
    pauses: Pauses,
    model: ServedModel,
    before: Sighting,
    load: Load,
    last: Command | None,
    now: datetime,
) -> Scaled:
    verdict = decide(rule, before, load, pauses.blocks(last, now), now)
    standing = standing_of(verdict.decision, verdict.reason)
    if standing == before.standing and verdict.decision is Decision.HOLD:
        return Scaled(model, verdict, None)
    why = {**numbers(rule, before, load, verdict, now), "failures": last.failures if last else 0}
    finding = Finding(now, model.id, model.name, None, verdict.decision, verdict.reason, why)
    return Scaled(model, verdict._replace(sighting=replace(verdict.sighting, standing=standing)), finding)


def load_of(model: ServedModel, fleet: Fleet, seen: Observation, rule: ScalingRule) -> Load:
    """The model's share of its name's traffic: calls are spread over all replicas of a name alike."""
    known = seen.known(model.name)
    if model.name not in seen.recent:
        return Load(0.0, 0.0, known, seen.restarted)
    share = model.replicas / (fleet.replicas_by_name[model.name] or 1)
    up, down = seen.rate(model.name, rule.up_window), seen.rate(model.name, rule.down_window)
    return Load(up * share, down * share, known, seen.restarted)
