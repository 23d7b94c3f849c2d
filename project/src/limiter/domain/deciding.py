"""One tick's decisions about the whole fleet: the same code for the service and for a replay of its readings."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from limiter.domain.audit import DecisionRecord, standing_of
from limiter.domain.command import Command, CommandKind, CommandPacing
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.policy import Policy
from limiter.domain.scaling import Load, ScaleDecision, ScalingRule, decide, numbers, scaling_state, settled
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
    """The decisions about a fleet; of the `settled` models nothing changes, not even what is remembered."""

    decided: list[ModelDecision]
    settled: list[ScalingState]

    def counts(self) -> Counter[tuple[Decision, Reason]]:
        """How often each decision was taken for each reason."""
        counts = Counter((one.verdict.decision, one.verdict.reason) for one in self.decided)
        counts[Decision.HOLD, Reason.WITHIN_TARGET] += len(self.settled)
        return +counts

    def scaling_states(self) -> list[ScalingState]:
        """What to remember of every model."""
        return self.settled + [one.verdict.scaling_state for one in self.decided]


def decide_fleet(
    policy: Policy,
    fleet: Fleet,
    observation: Observation,
    scaling_states: Mapping[UUID, ScalingState],
    latest: Mapping[UUID, Command],
    now: datetime,
) -> FleetDecisions:
    """The decision for every running model at `now`; `latest` is the latest command of each."""
    decided, still = [], []
    quiet, recent = (
        observation.complete and not observation.restarted,
        observation.recent.keys() | observation.unknown_names | observation.busy,
    )
    for model in fleet.models:
        remembered, rule = scaling_states.get(model.id), policy.scaling(model.name)
        idle = quiet and model.name not in recent
        if idle and remembered and settled(rule, model, remembered) and model.id not in latest:
            still.append(remembered)
        else:
            load = load_of(model, fleet, observation, rule)
            before = scaling_state(model, remembered, now)
            decided.append(_decide(rule, policy.pacing_of(model.name), model, before, load, latest.get(model.id), now))
    return FleetDecisions(decided, still)


def _decide(
    rule: ScalingRule,
    pacing: CommandPacing,
    model: ServedModel,
    before: ScalingState,
    load: Load,
    last: Command | None,
    now: datetime,
) -> ModelDecision:
    verdict = decide(rule, before, load, pacing.blocks(last, now), now)
    standing = standing_of(verdict.decision, verdict.reason)
    if standing == before.standing and verdict.decision is Decision.HOLD:
        return ModelDecision(model, verdict, None)
    why = {**numbers(rule, before, load, verdict, now), "failures": last.failures if last else 0}
    record = DecisionRecord(now, model.id, model.name, None, verdict.decision, verdict.reason, why)
    return ModelDecision(
        model, verdict._replace(scaling_state=replace(verdict.scaling_state, standing=standing)), record
    )


def load_of(model: ServedModel, fleet: Fleet, observation: Observation, rule: ScalingRule) -> Load:
    """The model's share of its name's traffic: calls are spread over all replicas of a name alike."""
    known = observation.known(model.name) and model.name not in fleet.unsure_names
    restarted, busy = observation.restarted, model.name in observation.busy
    if model.name not in observation.recent:
        return Load(0.0, 0.0, known, restarted, busy)
    share = model.replicas / (fleet.replicas_by_name[model.name] or 1)
    up, down = observation.rate(model.name, rule.up_window), observation.rate(model.name, rule.down_window)
    return Load(up * share, down * share, known, restarted, busy)
