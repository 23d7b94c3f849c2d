"""Many ticks of decide() with a platform that takes its time: no repeats, no flapping, never out of bounds."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from limiter.domain.command import Command, CommandState
from limiter.domain.decision import Decision
from limiter.domain.fleet import ScalingState, ServedModel
from limiter.domain.load import Load
from limiter.domain.scaling import decide, scaling_state
from limiter.domain.scaling_rule import ScalingRule
from tests.unit.domain.build import PACING, SCALING, UNHURRIED, Readings, at, command, served

TICK, SAGA = 15, 20  # seconds


@dataclass
class Simulated:
    """One model, its scaling state and latest command; a saga changes the replicas SAGA seconds after the command."""

    rule: ScalingRule = SCALING
    model: ServedModel = field(default_factory=served)
    state: ScalingState | None = None
    last: Command | None = None
    wanted: int = 0
    commands: list[tuple[int, int]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def tick(self, now: int, load: Load) -> None:
        self._settle(now)
        before = scaling_state(self.model, self.state, at(now))
        verdict = decide(self.rule, before, load, PACING.blocks(self.last, at(now)), at(now))
        self.state = verdict.scaling_state
        if verdict.decision is not Decision.HOLD:
            self.wanted = verdict.replicas
            self.last = command(CommandState.SUBMITTED, planned=now)
            self.commands.append((now, verdict.replicas))
            self.decisions.append(verdict.decision)

    def _settle(self, now: int) -> None:
        if self.last and self.last.unfinished and at(now - SAGA) >= self.last.planned_at:
            ended = (self.last.planned_at - at(0)).total_seconds() + SAGA
            self.last = command(CommandState.COMPLETED, finished=ended)
            self.model = replace(self.model, replicas=self.wanted)

    def run(self, since: int, until: int, rps: Callable[[int], float]) -> None:
        for now in range(since, until, TICK):
            self.tick(now, Load(rps(now), rps(now), known=True))


def constant(rps: float) -> Callable[[int], float]:
    return lambda _: rps


def test_36_rps_on_one_replica_take_exactly_the_commands_3_and_4() -> None:
    model = Simulated()
    model.run(0, 3600, constant(36))
    # 30: stabilized; cap R + 2. Saga until 50, cooldown until 110; 120: ceil(36 / 10). 36 / 4 = 9 is within the target.
    assert model.commands == [(30, 3), (120, 4)]


def test_nothing_is_repeated_while_the_saga_runs_however_long_it_takes() -> None:
    model = Simulated(last=command(CommandState.SUBMITTED, planned=10**9))
    model.run(0, 3600, constant(1000))
    assert model.commands == []


def test_goes_back_to_one_replica_one_step_at_a_time_when_the_load_goes() -> None:
    model = Simulated(model=served(replicas=4))
    model.run(0, 3600, constant(0))
    # Each step: 300 s stabilization, seen at the first tick after the saga (20 s -> the second tick).
    assert model.commands == [(300, 3), (630, 2), (960, 1)]


def test_the_same_day_by_counters_that_grow_and_stop() -> None:
    model, readings = Simulated(), Readings()
    for now in range(0, 3600, TICK):
        observation = readings.tick(now, a={"m": 36 * min(now, 600)})
        up, down = observation.rate("m", SCALING.up_window), observation.rate("m", SCALING.down_window)
        model.tick(now, Load(up, down, observation.known("m"), observation.restarted))
    # The calls stop at 600. The 300 s average falls to 7 * 3 = 21 RPS after 125 s: wish at 735, command 300 s later.
    assert model.commands == [(45, 3), (135, 4), (1035, 3), (1365, 2), (1695, 1)]


def test_a_short_burst_moves_nothing() -> None:
    model = Simulated()
    model.run(0, 3600, lambda now: 1000 if now % 60 < 30 else 5)
    assert model.commands == []


def test_does_not_flap_at_22_rps() -> None:
    model = Simulated()
    model.run(0, 7200, constant(22))
    assert model.commands == [(30, 3)]


def test_a_failed_scale_is_tried_again_after_1_2_and_4_minutes() -> None:
    model, failures, tried = Simulated(), 0, []
    for now in range(0, 1000, TICK):
        model.tick(now, Load(36, 36, known=True))
        if model.last and model.last.unfinished:
            failures += 1
            tried.append(now)
            model.last = command(CommandState.FAILED, finished=now, failures=failures)
    assert tried == [30, 90, 210, 450, 930]


RULES = st.builds(
    lambda target, tolerance, headroom, low, extra, wait: replace(
        SCALING,
        target_rps=target,
        tolerance=tolerance,
        headroom=headroom,
        min_replicas=low,
        max_replicas=low + extra,
        up_stabilization=SCALING.up_stabilization * wait,
        down_stabilization=SCALING.down_stabilization * wait,
    ),
    target=st.floats(0.1, 100),
    tolerance=st.floats(0.001, 1),
    headroom=st.floats(0.05, 0.999),
    low=st.integers(1, 3),
    extra=st.integers(0, 9),
    wait=st.sampled_from([0, 0.1, 1]),
)
AWKWARD = st.floats(0, 2000) | st.sampled_from([0.0, 7.0, 10.0, 11.0, 14.0, 21.0, 22.0, 33.0, 77.0, 88.0])


@UNHURRIED
@given(RULES, st.lists(st.tuples(AWKWARD, st.integers(1, 12)), min_size=8, max_size=8))
def test_eight_models_under_constant_load_never_reverse(rule: ScalingRule, fleet: list[tuple[float, int]]) -> None:
    for number, (rps, replicas) in enumerate(fleet):
        inside = min(max(replicas, rule.min_replicas), rule.max_replicas)
        model = Simulated(rule, served(number, replicas=inside))
        model.run(0, 4500, constant(rps))
        assert len(set(model.decisions)) <= 1
        assert all(rule.min_replicas <= asked <= rule.max_replicas for _, asked in model.commands)
        steps = [inside, *(asked for _, asked in model.commands)]
        assert steps in (sorted(set(steps)), sorted(set(steps), reverse=True))


LOADS = st.lists(
    st.builds(Load, up=AWKWARD, down=AWKWARD, known=st.booleans(), restarted=st.booleans()), min_size=1, max_size=80
)


@UNHURRIED
@given(RULES, LOADS, st.integers(0, 20))
def test_replicas_asked_for_are_always_within_bounds_and_never_zero(
    rule: ScalingRule, loads: list[Load], replicas: int
) -> None:
    model = Simulated(rule, served(replicas=replicas))
    for tick, load in enumerate(loads):
        model.tick(tick * TICK, load)
    assert all(max(1, rule.min_replicas) <= asked <= rule.max_replicas for _, asked in model.commands)


@UNHURRIED
@given(RULES, LOADS, st.integers(0, 20))
def test_an_unknown_tick_never_scales_down(rule: ScalingRule, loads: list[Load], replicas: int) -> None:
    model = Simulated(rule, served(replicas=replicas))
    for tick, load in enumerate(loads):
        asked = len(model.commands)
        model.tick(tick * TICK, load._replace(known=False))
        assert Decision.SCALE_DOWN not in model.decisions[asked:]


def copied(state: ScalingState | None) -> ScalingState | None:
    return state and ScalingState(
        state.model_id,
        state.name,
        state.replicas,
        state.first_seen_at,
        state.overloaded_since,
        state.underused_since,
        None,
        state.underused_peak,
    )


@UNHURRIED
@given(RULES, LOADS, st.integers(1, 20), st.integers(0, 80))
def test_a_day_split_between_two_runners_is_decided_as_by_one(
    rule: ScalingRule, loads: list[Load], replicas: int, cut: int
) -> None:
    one = Simulated(rule, served(replicas=replicas))
    runner = Simulated(rule, served(replicas=replicas))
    for tick, load in enumerate(loads):
        if tick == cut:  # another replica goes on: what it knows is the row, the ledger and the registry
            runner = Simulated(rule, runner.model, copied(runner.state), runner.last, runner.wanted, runner.commands[:])
        one.tick(tick * TICK, load)
        runner.tick(tick * TICK, load)
    assert runner.commands == one.commands
    assert runner.state == one.state
