"""How many replicas a model should have.

Up when the load per replica stayed above the target and tolerance; to what the load needs, at most doubling. Down by
one when the load would still fit one replica less with headroom to spare. With headroom below one the two can never
alternate under constant load: after a step up the load needs more than `headroom * target * (replicas - 1)`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from limiter.domain.audit import Numbers, standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import ScalingState, ServedModel


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
    """One model's share of its name's calls per second; `known` is false if it may be more than was counted.

    `busy` has requests in flight, some of which a scale down could cut off.
    """

    up: float
    down: float
    known: bool
    restarted: bool = False
    busy: bool = False


class ScaleDecision(NamedTuple):
    """What to do with one model and why; `scaling_state` is what to remember of it."""

    decision: Decision
    reason: Reason
    replicas: int
    scaling_state: ScalingState


def decide(rule: ScalingRule, state: ScalingState, load: Load, blocked: Reason | None, now: datetime) -> ScaleDecision:
    """The decision for one model at `now`; `blocked` says why no command may be sent, if so."""
    if rule.exempt:
        return _hold(state, Reason.EXEMPT, None, None)
    overloaded_since, underused_since = _pressure(rule, state, load, now)
    if blocked is Reason.COMMAND_UNFINISHED:
        return _hold(state, blocked, None, None)
    decision, reason, wanted = _wanted(rule, state, load, overloaded_since, underused_since, now)
    if decision is Decision.SCALE_DOWN and load.busy:
        decision, reason = Decision.HOLD, Reason.REQUESTS_IN_FLIGHT
    if decision is Decision.HOLD or blocked:
        return _hold(state, blocked or reason, overloaded_since, underused_since)
    # The pressure is spent: after the command the load must show itself anew against the new replica count.
    return ScaleDecision(decision, reason, wanted, _with(state, None, None))


def numbers(rule: ScalingRule, state: ScalingState, load: Load, verdict: ScaleDecision, now: datetime) -> Numbers:
    """What led to the verdict, for its record; `state` is what was remembered before it."""
    up = overloaded(rule, state.replicas, load)
    since = (state.overloaded_since if up else state.underused_since) or now
    return {
        "rps": load.up,
        "rps_down": load.down,
        "rps_per_replica": load.up / (state.replicas or 1),
        "replicas": state.replicas,
        "fewer": state.replicas - 1,
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


def settled(rule: ScalingRule, model: ServedModel, state: ScalingState) -> bool:
    """True if `decide` would change nothing about this model, whatever the time, as long as nobody calls it.

    Most models of a large fleet are so at most times, and need not be decided about.
    """
    return (
        model.replicas == state.replicas == rule.min_replicas
        and state.standing == SETTLED
        and state.overloaded_since is None
        and state.underused_since is None
        and model.name == state.name
        and not rule.exempt
    )


def overloaded(rule: ScalingRule, replicas: int, load: Load) -> bool:
    """True if one replica carries more than the target and its tolerance."""
    return load.up > rule.target_rps * (1 + rule.tolerance) * replicas


def underused(rule: ScalingRule, replicas: int, load: Load) -> bool:
    """True if one replica less would still keep the headroom."""
    return replicas > rule.min_replicas and load.down <= rule.headroom * rule.target_rps * (replicas - 1)


def _pressure(
    rule: ScalingRule, state: ScalingState, load: Load, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Since when the model is overloaded, and underused; an unknown load neither begins nor ends the latter."""
    overloaded_since = (state.overloaded_since or now) if overloaded(rule, state.replicas, load) else None
    if load.restarted:
        return overloaded_since, None
    if not load.known:
        return overloaded_since, state.underused_since
    return overloaded_since, (state.underused_since or now) if underused(rule, state.replicas, load) else None


def _wanted(
    rule: ScalingRule,
    state: ScalingState,
    load: Load,
    overloaded_since: datetime | None,
    underused_since: datetime | None,
    now: datetime,
) -> tuple[Decision, Reason, int]:
    replicas = state.replicas
    if replicas < rule.min_replicas:
        return Decision.SCALE_UP, Reason.BELOW_MIN, rule.min_replicas
    if not load.known and overloaded_since is None:
        return Decision.HOLD, Reason.READING_UNKNOWN, replicas
    if replicas > rule.max_replicas:
        if not load.known:
            return Decision.HOLD, Reason.READING_UNKNOWN, replicas
        return Decision.SCALE_DOWN, Reason.ABOVE_MAX, rule.max_replicas
    if overloaded_since is not None:
        if replicas == rule.max_replicas:
            return Decision.HOLD, Reason.AT_MAX, replicas
        if now - overloaded_since < rule.up_stabilization:
            return Decision.HOLD, Reason.STABILIZING, replicas
        needed = max(replicas + 1, ceil(load.up / rule.target_rps))  # never the count there is, whatever the rounding
        return Decision.SCALE_UP, Reason.OVERLOADED, min(rule.max_replicas, max(2 * replicas, replicas + 2), needed)
    if underused_since is not None:
        if now - underused_since < rule.down_stabilization:
            return Decision.HOLD, Reason.STABILIZING, replicas
        return Decision.SCALE_DOWN, Reason.UNDERUSED, replicas - 1
    return Decision.HOLD, Reason.WITHIN_TARGET, replicas


def _hold(
    state: ScalingState, reason: Reason, overloaded_since: datetime | None, underused_since: datetime | None
) -> ScaleDecision:
    return ScaleDecision(Decision.HOLD, reason, state.replicas, _with(state, overloaded_since, underused_since))


def _with(state: ScalingState, overloaded_since: datetime | None, underused_since: datetime | None) -> ScalingState:
    if (state.overloaded_since, state.underused_since) == (overloaded_since, underused_since):
        return state
    return ScalingState(
        state.model_id,
        state.name,
        state.replicas,
        state.first_seen_at,
        overloaded_since,
        underused_since,
        state.standing,
    )


def scaling_state(model: ServedModel, before: ScalingState | None, now: datetime) -> ScalingState:
    """What to remember of a model that runs now; another replica count ends the pressure measured at the old one."""
    if before is None:
        return ScalingState(model.id, model.name, model.replicas, now)
    if (before.name, before.replicas) == (model.name, model.replicas):
        return before
    return ScalingState(model.id, model.name, model.replicas, before.first_seen_at, standing=before.standing)
