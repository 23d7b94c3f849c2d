"""One model's load: what it carries, what it is about to carry, and a burst that need not last to be believed."""

from collections.abc import Sequence
from math import log, sqrt
from typing import NamedTuple, Self

from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.scaling_rule import ScalingRule
from limiter.domain.usage import Observation

# A burst by chance once in a million ticks at most, which is once in half a year of ticks of 15 s. Chernoff's bound: a
# Poisson stream of m calls a tick brings f times as many with a chance of at most exp(-m (f ln f - f + 1)). So twice
# what the replicas should carry needs 72 calls in the tick, four times 22, ten times 10.
CHANCE_OF_BURST = 1e-6
# A slope is believed from two standard deviations of the calls that it is made of, a Poisson stream's.
SLOPE_DEVIATIONS = 2.0


class Load(NamedTuple):
    """One model's share of its name's calls per second; `known` is false if it may be more than was counted.

    `restarted` ends a wish for fewer: what came between may be lost. `measured` is false at the very first reading.
    `busy` has requests in flight, some of which a scale down could cut off. `tick` and `tick_calls` are the calls per
    second, and the calls, of the last tick alone, if it is no shorter than the burst window; `slope` is by how much the
    calls per second grow in a second, 0 if that may be chance; `lead` is in how many seconds a command sent now becomes
    real. `after_outage` is the first one after so long a time without a reading that no wish for more can be said to
    have lasted.
    """

    up: float
    down: float
    known: bool
    restarted: bool = False
    busy: bool = False
    tick: float = 0.0
    tick_calls: float = 0.0
    slope: float = 0.0
    lead: float = 0.0
    measured: bool = True
    after_outage: bool = False

    def expected(self, most: float) -> float:
        """Calls per second when a command sent now becomes real: never less than now, nor more than `most` times."""
        return max(self.up, min(self.up + self.slope * self.lead, most * self.up))

    def is_burst(self, carried: float, factor: float) -> bool:
        """True if the last tick alone has `factor` times the calls per second that should be carried; 0: never."""
        if not factor or not carried or self.tick < factor * carried:
            return False
        times = self.tick / carried
        return self.tick_calls * (log(times) - 1 + 1 / times) >= -log(CHANCE_OF_BURST)


def last_tick(observation: Observation, name: str) -> tuple[float, float]:
    """Calls per second, and calls, of one model name since the last good reading of each target."""
    spans = observation.fresh.get(name, {})
    return sum(calls / seconds for seconds, calls in spans.items() if seconds > 0), sum(spans.values())


def _burst_rate(observation: Observation, name: str, rule: ScalingRule, tick: float, calls: float) -> float:
    """Calls per second of the last tick; of a short one, as a run by hand makes it, no more than with those before."""
    least = rule.burst_window.total_seconds()
    short = tick > 0 and calls / tick < least
    return min(tick, observation.rates(name, (least,))[0]) if short else tick


class _Windows(NamedTuple):
    """The windows of one rule, each only as long as has been measured: in seconds, and their places in that order."""

    rule: ScalingRule
    spans: Sequence[float]  # the shortest first
    up: int
    down: int
    slope: float = 0.0  # seconds; 0: no slope is looked for, or it has not been measured for so long
    half: int = 0
    whole: int = 0
    double: int = 0

    @classmethod
    def of(cls, rule: ScalingRule, observation: Observation) -> Self:
        measured, window = observation.measured_for, rule.slope_window
        # Calls that were lost in a restart would look like growth as soon as they are the older ones.
        lost = any(gap.until > observation.at - 2 * window for gap in observation.memory.gaps)
        sloping = rule.lead_most > 1 and measured >= 2 * window and not lost
        windows = (rule.up_window, rule.down_window, *((window / 2, window, 2 * window) if sloping else ()))
        seconds = [min(one, measured).total_seconds() for one in windows]
        spans = sorted(set(seconds))
        up, down, *slopes = map(spans.index, seconds)
        return cls(rule, spans, up, down, window.total_seconds() if sloping else 0.0, *slopes)

    def slope_of(self, rates: Sequence[float]) -> float:
        """By how much the calls per second grow in a second: of the last window over those of the one before.

        0 if it may be chance. Growth that is over, as after a step, does not count on: within the last window it must
        go on as far as its own noise lets one see.
        """
        if not self.slope:
            return 0.0
        whole, deviation = _growth(rates[self.whole], rates[self.double], self.slope)
        if whole <= SLOPE_DEVIATIONS * deviation:
            return 0.0
        late, late_deviation = _growth(rates[self.half], rates[self.whole], self.slope / 2)
        return max(0.0, min(whole, late + late_deviation))


def _growth(late: float, both: float, seconds: float) -> tuple[float, float]:
    """The slope between two windows of this length, and its standard deviation if the calls are a Poisson stream's.

    Given are the calls per second of the later one, and of both together.
    """
    late, both = late * seconds, both * 2 * seconds
    return (2 * late - both) / seconds**2, sqrt(both) / seconds**2


class Loads:
    """The loads of a fleet's models at one tick: the calls of a name are spread over all its replicas alike."""

    def __init__(self, fleet: Fleet, observation: Observation) -> None:
        """The fleet as it was observed."""
        self._fleet = fleet
        self._observation = observation
        # Not by the clock: of several pages one is read later than another, in the very first reading too.
        self._measured = any(target.first_read_at < target.read_at for target in observation.memory.targets.values())
        self._windows: dict[int, _Windows] = {}  # of each rule, by which object it is: few, and slow to compare

    def of(self, model: ServedModel, rule: ScalingRule, saga_seconds: float | None = None) -> Load:
        """One model's share; `saga_seconds` is how long its scale ups usually take, if known."""
        name, fleet, observation = model.name, self._fleet, self._observation
        known = observation.known(name) and name not in fleet.unsure_names
        restarted, busy = observation.restarted, name in observation.busy
        if not model.replicas or name not in observation.recent:
            return Load(0.0, 0.0, known, restarted, busy, measured=self._measured)
        share = model.replicas / fleet.replicas_by_name[name]
        windows = self._windows.get(id(rule)) or self._windows.setdefault(id(rule), _Windows.of(rule, observation))
        rates = observation.rates(name, windows.spans)
        up, down, grows = rates[windows.up] * share, rates[windows.down] * share, windows.slope_of(rates) * share
        tick, calls = last_tick(observation, name)
        lead = rule.lead_default.total_seconds() if saga_seconds is None else saga_seconds
        lead += calls / tick if tick else 0
        restarted = restarted or rule.hides(observation.unseen, calls * share, model.replicas)
        tick = _burst_rate(observation, name, rule, tick, calls)
        own, outage = (tick * share, calls * share), rule.is_outage(observation.unseen)
        return Load(up, down, known, restarted, busy, *own, grows, lead, after_outage=outage)
