"""How many replicas a model should have.

Up when the load per replica stayed above the target and tolerance; to what the load needs, at most doubling. The load
is the one expected when a command sent now takes effect. A burst waits for nothing, and goes beyond doubling. Down when
the load would still fit one replica less with headroom to spare; to what the highest load meanwhile needs with it.
With headroom below one the two can never alternate under constant load: after a step up the load needs more than
`headroom * target * (replicas - 1)`.
"""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from limiter.domain.audit import Numbers
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import ScalingState, ServedModel
from limiter.domain.load import Load
from limiter.domain.scaling_rule import ScalingRule, replicas_for


class ScaleDecision(NamedTuple):
    """What to do with one model and why; `scaling_state` is what to remember of it."""

    decision: Decision
    reason: Reason
    replicas: int
    scaling_state: ScalingState


class _Pressure(NamedTuple):
    """Since when the model is overloaded, and underused, and how much it carried at most since then."""

    overloaded_since: datetime | None = None
    underused_since: datetime | None = None
    underused_peak: float | None = None


def decide(rule: ScalingRule, state: ScalingState, load: Load, blocked: Reason | None, now: datetime) -> ScaleDecision:
    """The decision for one model at `now`; `blocked` says why no command may be sent, if so."""
    if rule.exempt:
        return _hold(state, Reason.EXEMPT, _Pressure())
    pressure = _pressure(rule, state, load, now)
    if blocked is Reason.COMMAND_UNFINISHED:
        return _hold(state, blocked, _Pressure())
    decision, reason, wanted = _wanted(rule, state, load, pressure, now)
    if decision is Decision.SCALE_DOWN and load.busy:
        decision, reason = Decision.HOLD, Reason.REQUESTS_IN_FLIGHT
    if reason is Reason.BURST and blocked is Reason.COOLING_DOWN:
        blocked = None  # what came after the command ended is no echo of what led to it
    if decision is Decision.HOLD or blocked:
        return _hold(state, blocked or reason, pressure)
    # The pressure is spent: after the command the load must show itself anew against the new replica count.
    return ScaleDecision(decision, reason, wanted, _with(state, _Pressure()))


def numbers(rule: ScalingRule, state: ScalingState, load: Load, verdict: ScaleDecision, now: datetime) -> Numbers:
    """What led to the verdict, for its record; `state` is what was remembered before it."""
    up = overloaded(rule, state.replicas, load)
    since = (_overloaded_since(state, load) if up else state.underused_since) or now
    return {
        "rps": load.up,
        "rps_down": load.down,
        "rps_per_replica": load.up / (state.replicas or 1),
        "rps_tick": load.tick,
        "rps_expected": load.expected(rule.lead_most),
        "rps_slope": 60 * load.slope,  # a minute
        "lead_seconds": load.lead,
        "replicas": state.replicas,
        "fewer": state.replicas - 1,
        "wanted": verdict.replicas,
        "target": rule.target_rps,
        "up_factor": 1 + rule.tolerance,
        "burst_factor": rule.burst_factor,
        "headroom": rule.headroom,
        "minimum": rule.min_replicas,
        "maximum": rule.max_replicas,
        "wish": "up" if up else "down",
        "held_seconds": (now - since).total_seconds(),
        "needed_seconds": (rule.up_stabilization if up else rule.down_stabilization).total_seconds(),
    }


def overloaded(rule: ScalingRule, replicas: int, load: Load) -> bool:
    """True if one replica carries, or is about to carry, more than the target and its tolerance."""
    if load.up > rule.target_rps * (1 + rule.tolerance) * replicas:
        return True
    # The tolerance is for noise, and growth is only believed where it is more than that.
    return load.expected(rule.lead_most) > max(rule.target_rps * replicas, load.up)


def underused(rule: ScalingRule, replicas: int, load: Load) -> bool:
    """True if one replica less would still keep the headroom, by either window."""
    return replicas > rule.min_replicas and max(load.up, load.down) <= rule.headroom * rule.target_rps * (replicas - 1)


def bursting(rule: ScalingRule, replicas: int, load: Load) -> bool:
    """True if the last tick alone shows far more than the replicas should carry; a mean over an outage is none."""
    return not load.after_outage and load.is_burst(rule.target_rps * replicas, rule.burst_factor)


def _pressure(rule: ScalingRule, state: ScalingState, load: Load, now: datetime) -> _Pressure:
    """The pressure at this tick; an unknown load neither begins nor ends that to go down, and a burst ends it.

    What began in a time to come did so before the clock was set back: it begins anew.
    """
    up = overloaded(rule, state.replicas, load)
    overloaded_since = min(_overloaded_since(state, load) or now, now) if up else None
    if load.restarted or bursting(rule, state.replicas, load):
        return _Pressure(overloaded_since)
    if not load.known:
        return _Pressure(overloaded_since, state.underused_since, state.underused_peak)
    if not underused(rule, state.replicas, load):
        return _Pressure(overloaded_since)
    since = min(state.underused_since or now, now)
    return _Pressure(overloaded_since, since, max(load.up, state.underused_peak or 0.0))


def _overloaded_since(state: ScalingState, load: Load) -> datetime | None:
    """Since when it was overloaded at each reading; a mean over an outage does not show that it was so throughout."""
    return None if load.after_outage else state.overloaded_since


def _wanted(
    rule: ScalingRule, state: ScalingState, load: Load, pressure: _Pressure, now: datetime
) -> tuple[Decision, Reason, int]:
    replicas, burst = state.replicas, bursting(rule, state.replicas, load)
    if replicas < rule.min_replicas:
        return Decision.SCALE_UP, Reason.BELOW_MIN, rule.min_replicas
    if not load.known and pressure.overloaded_since is None and not burst:
        return Decision.HOLD, Reason.READING_UNKNOWN, replicas
    if replicas > rule.max_replicas:
        if not load.known:
            return Decision.HOLD, Reason.READING_UNKNOWN, replicas
        return Decision.SCALE_DOWN, Reason.ABOVE_MAX, rule.max_replicas
    if burst or pressure.overloaded_since is not None:
        return _wanted_up(rule, replicas, load, None if burst else pressure.overloaded_since, now)
    if pressure.underused_since is not None:
        if not load.measured or now - pressure.underused_since < rule.down_stabilization:
            return Decision.HOLD, Reason.STABILIZING, replicas
        return (
            Decision.SCALE_DOWN,
            Reason.UNDERUSED,
            _fewer(rule, replicas, max(load.down, pressure.underused_peak or 0.0)),
        )
    return Decision.HOLD, Reason.WITHIN_TARGET, replicas


def _wanted_up(
    rule: ScalingRule, replicas: int, load: Load, since: datetime | None, now: datetime
) -> tuple[Decision, Reason, int]:
    """More replicas, overloaded since then, or at once in a burst."""
    expected = load.expected(rule.lead_most)
    if replicas == rule.max_replicas:
        return Decision.HOLD, Reason.AT_MAX, replicas
    if since is None:
        # With the tolerance to spare, so that noise does not overload them at once, and so few that they are needed.
        needed = min(replicas_for(load.tick * (1 + rule.tolerance), rule.target_rps), rule.fewest(load.tick))
        return Decision.SCALE_UP, Reason.BURST, min(rule.max_replicas, max(replicas + 1, needed))
    if now - since < rule.up_stabilization:
        return Decision.HOLD, Reason.STABILIZING, replicas
    # Never the count there is, whatever the rounding.
    needed = max(replicas + 1, replicas_for(expected, rule.target_rps))
    now_already = load.up > rule.target_rps * (1 + rule.tolerance) * replicas
    reason = Reason.OVERLOADED if now_already else Reason.EXPECTED_OVERLOAD
    return Decision.SCALE_UP, reason, min(rule.max_replicas, max(2 * replicas, replicas + 2), needed)


def _fewer(rule: ScalingRule, replicas: int, peak: float) -> int:
    """As many as the highest load of the stabilization needs with headroom, at most `down_step` fewer."""
    needed = min(replicas - 1, max(rule.min_replicas, rule.fewest(peak)))
    return max(needed, replicas - rule.down_step) if rule.down_step else needed


def _hold(state: ScalingState, reason: Reason, pressure: _Pressure) -> ScaleDecision:
    return ScaleDecision(Decision.HOLD, reason, state.replicas, _with(state, pressure))


def _with(state: ScalingState, pressure: _Pressure) -> ScalingState:
    if (state.overloaded_since, state.underused_since, state.underused_peak) == pressure:
        return state
    return replace(state, **pressure._asdict())


def scaling_state(model: ServedModel, before: ScalingState | None, now: datetime) -> ScalingState:
    """What to remember of a model that runs now; another replica count ends the pressure measured at the old one."""
    if before is None:
        return ScalingState(model.id, model.name, model.replicas, now)
    if (before.name, before.replicas) == (model.name, model.replicas):
        return before
    return ScalingState(model.id, model.name, model.replicas, before.first_seen_at, standing=before.standing)
