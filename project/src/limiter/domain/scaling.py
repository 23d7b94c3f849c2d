"""How many replicas a model should have.

Up when the load per replica stayed above the target and tolerance; to what the load needs, at most doubling. Down by
one when the load would still fit one replica less with headroom to spare. With headroom below one the two can never
alternate under constant load: after a step up the load needs more than `headroom * target * (replicas - 1)`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from limiter.domain.action import Decision, Reason
from limiter.domain.audit import Numbers, standing_of
from limiter.domain.fleet import ServedModel, Sighting


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """The scaling policy for one model name; rates in calls per second."""

    target_rps: float
    tolerance: float
    headroom: float
    min_replicas: int
    max_replicas: int
    up_window: timedelta
    down_window: timedelta
    up_stabilization: timedelta
    down_stabilization: timedelta
    exempt: bool = False


SETTLED = standing_of(Decision.HOLD, Reason.WITHIN_TARGET)


class Load(NamedTuple):
    """One model's share of its name's calls per second; `known` is false if it may be more than is seen."""

    up: float
    down: float
    known: bool
    restarted: bool = False


class ScaleDecision(NamedTuple):
    """What to do with one model and why; `sighting` is what to remember of it."""

    decision: Decision
    reason: Reason
    replicas: int
    sighting: Sighting


def decide(rule: ScalingRule, seen: Sighting, load: Load, blocked: Reason | None, now: datetime) -> ScaleDecision:
    """The decision for one model at `now`; `blocked` says why no command may be sent, if so."""
    if rule.exempt:
        return _hold(seen, Reason.EXEMPT, None, None)
    up_since, down_since = _wishes(rule, seen, load, now)
    if blocked is Reason.COMMAND_UNFINISHED:
        return _hold(seen, blocked, None, None)
    decision, reason, wanted = _wanted(rule, seen, load, up_since, down_since, now)
    if decision is Decision.HOLD or blocked:
        return _hold(seen, blocked or reason, up_since, down_since)
    # The wish is spent: after the command the load must show itself anew against the new replica count.
    return ScaleDecision(decision, reason, wanted, _with(seen, None, None))


def numbers(rule: ScalingRule, seen: Sighting, load: Load, verdict: ScaleDecision, now: datetime) -> Numbers:
    """What led to the verdict, for its audit; `seen` is what was remembered before it."""
    up = overloaded(rule, seen.replicas, load)
    since = (seen.up_since if up else seen.down_since) or now
    return {
        "rps": load.up,
        "rps_down": load.down,
        "rps_per_replica": load.up / (seen.replicas or 1),
        "replicas": seen.replicas,
        "fewer": seen.replicas - 1,
        "wanted": verdict.replicas,
        "target": rule.target_rps,
        "up_factor": 1 + rule.tolerance,
        "headroom": rule.headroom,
        "minimum": rule.min_replicas,
        "maximum": rule.max_replicas,
        "wish": "up" if up else "down",
        "held_seconds": (now - since).total_seconds(),
        "needed_seconds": (rule.up_stabilization if up else rule.down_stabilization).total_seconds(),
    }


def settled(rule: ScalingRule, model: ServedModel, seen: Sighting) -> bool:
    """True if `decide` would change nothing about this model, whatever the time, as long as nobody calls it.

    Most models of a large fleet are so at most times, and need not be decided about.
    """
    return (
        model.replicas == seen.replicas == rule.min_replicas
        and seen.standing == SETTLED
        and seen.up_since is None
        and seen.down_since is None
        and model.name == seen.name
        and not rule.exempt
    )


def overloaded(rule: ScalingRule, replicas: int, load: Load) -> bool:
    """True if one replica carries more than the target and its tolerance."""
    return load.up > rule.target_rps * (1 + rule.tolerance) * replicas


def underused(rule: ScalingRule, replicas: int, load: Load) -> bool:
    """True if one replica less would still keep the headroom."""
    return replicas > rule.min_replicas and load.down <= rule.headroom * rule.target_rps * (replicas - 1)


def _wishes(rule: ScalingRule, seen: Sighting, load: Load, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Since when the wish to go up, and to go down, has held; an unknown load neither feeds nor ends the latter."""
    up_since = (seen.up_since or now) if overloaded(rule, seen.replicas, load) else None
    if load.restarted:
        return up_since, None
    if not load.known:
        return up_since, seen.down_since
    return up_since, (seen.down_since or now) if underused(rule, seen.replicas, load) else None


def _wanted(
    rule: ScalingRule, seen: Sighting, load: Load, up_since: datetime | None, down_since: datetime | None, now: datetime
) -> tuple[Decision, Reason, int]:
    replicas = seen.replicas
    if replicas < rule.min_replicas:
        return Decision.SCALE_UP, Reason.BELOW_MIN, rule.min_replicas
    if not load.known and up_since is None:
        return Decision.HOLD, Reason.READING_UNKNOWN, replicas
    if replicas > rule.max_replicas:
        if not load.known:
            return Decision.HOLD, Reason.READING_UNKNOWN, replicas
        return Decision.SCALE_DOWN, Reason.ABOVE_MAX, rule.max_replicas
    if up_since is not None:
        if replicas == rule.max_replicas:
            return Decision.HOLD, Reason.AT_MAX, replicas
        if now - up_since < rule.up_stabilization:
            return Decision.HOLD, Reason.STABILIZING, replicas
        needed = max(replicas + 1, ceil(load.up / rule.target_rps))  # never the count there is, whatever the rounding
        return Decision.SCALE_UP, Reason.OVERLOADED, min(rule.max_replicas, max(2 * replicas, replicas + 2), needed)
    if down_since is not None:
        if now - down_since < rule.down_stabilization:
            return Decision.HOLD, Reason.STABILIZING, replicas
        return Decision.SCALE_DOWN, Reason.UNDERUSED, replicas - 1
    return Decision.HOLD, Reason.WITHIN_TARGET, replicas


def _hold(seen: Sighting, reason: Reason, up_since: datetime | None, down_since: datetime | None) -> ScaleDecision:
    return ScaleDecision(Decision.HOLD, reason, seen.replicas, _with(seen, up_since, down_since))


def _with(seen: Sighting, up_since: datetime | None, down_since: datetime | None) -> Sighting:
    if (seen.up_since, seen.down_since) == (up_since, down_since):
        return seen
    return Sighting(seen.model_id, seen.name, seen.replicas, seen.first_seen_at, up_since, down_since, seen.standing)


def sighting(model: ServedModel, before: Sighting | None, now: datetime) -> Sighting:
    """What is remembered of a model now seen running; another replica count ends the wishes formed at the old one."""
    if before is None:
        return Sighting(model.id, model.name, model.replicas, now)
    if (before.name, before.replicas) == (model.name, model.replicas):
        return before
    return Sighting(model.id, model.name, model.replicas, before.first_seen_at, standing=before.standing)
