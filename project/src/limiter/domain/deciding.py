"""One tick's decisions about the whole fleet: the same code for the service and for a replay of its readings."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from limiter.domain.action import Command, Decision, Reason
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


def decide_fleet(
    policy: Policy,
    fleet: Fleet,
    seen: Observation,
    sightings: Mapping[UUID, Sighting],
    latest: Mapping[UUID, Command],
    now: datetime,
) -> list[Scaled]:
    """The decision for every running model at `now`; `latest` is the latest command of each."""
    decided = []
    for model in fleet.models:
        rule, last = policy.scaling(model.name), latest.get(model.id)
        before = sighting(model, sightings.get(model.id), now)
        load = load_of(model, fleet, seen, rule)
        if last is None and settled(rule, before, load):
            settles = ScaleDecision(Decision.HOLD, Reason.WITHIN_TARGET, before.replicas, before)
            decided.append(Scaled(model, settles, None))
            continue
        verdict = decide(rule, before, load, policy.pauses.blocks(last, now), now)
        standing = standing_of(verdict.decision, verdict.reason)
        finding = None
        if standing != before.standing or verdict.decision is not Decision.HOLD:
            why = {**numbers(rule, before, load, verdict, now), "failures": last.failures if last else 0}
            finding = Finding(now, model.id, model.name, None, verdict.decision, verdict.reason, why)
            verdict = verdict._replace(sighting=replace(verdict.sighting, standing=standing))
        decided.append(Scaled(model, verdict, finding))
    return decided


def load_of(model: ServedModel, fleet: Fleet, seen: Observation, rule: ScalingRule) -> Load:
    """The model's share of its name's traffic: calls are spread over all replicas of a name alike."""
    known = seen.known(model.name)
    if model.name not in seen.recent:
        return Load(0.0, 0.0, known, seen.restarted)
    share = model.replicas / (fleet.replicas_by_name[model.name] or 1)
    up, down = seen.rate(model.name, rule.up_window), seen.rate(model.name, rule.down_window)
    return Load(up * share, down * share, known, seen.restarted)
