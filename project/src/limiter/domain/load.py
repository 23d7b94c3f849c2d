"""One model's load: what it carries, what it is about to carry, and a burst that need not last to be believed."""

from datetime import timedelta
from math import log, sqrt
from typing import NamedTuple

from limiter.domain.usage import Observation

# A burst by chance once in a million ticks at most, which is once in half a year of ticks of 15 s. Chernoff's bound: a
# Poisson stream of m calls a tick brings f times as many with a chance of at most exp(-m (f ln f - f + 1)). So twice
# what the replicas should carry needs 72 calls in the tick, four times 22, ten times 10.
CHANCE_OF_BURST = 1e-6
# A slope is believed from two standard deviations of the calls that it is made of, a Poisson stream's.
SLOPE_DEVIATIONS = 2.0
SLOPE_WINDOWS = 2  # a slope is between two windows, each as long as two of SCALE_UP_WINDOW_SECONDS


class Load(NamedTuple):
    """One model's share of its name's calls per second; `known` is false if it may be more than was counted.

    `busy` has requests in flight, some of which a scale down could cut off. `tick` and `tick_calls` are the calls per
    second, and the calls, of the last tick alone; `slope` is by how much the calls per second grow in a second, 0 if
    that may be chance; `lead` is in how many seconds a command sent now becomes real.
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


def slope(observation: Observation, name: str, window: timedelta) -> float:
    """By how much the calls per second of a name grow in a second: of the last `window` over those of the one before.

    0 if it may be chance, or if calls have not been measured for so long. Growth that is over, as after a step, does
    not count on: within the last window it must go on as far as its own noise lets one see.
    """
    if observation.measured_for < 2 * window:
        return 0.0
    whole, deviation = _growth(observation, name, window)
    if whole <= SLOPE_DEVIATIONS * deviation:
        return 0.0
    late, late_deviation = _growth(observation, name, window / 2)
    return max(0.0, min(whole, late + late_deviation))


def _growth(observation: Observation, name: str, window: timedelta) -> tuple[float, float]:
    """The slope between two windows of this length, and its standard deviation if the calls are a Poisson stream's."""
    seconds = window.total_seconds()
    late, both = observation.rate(name, window) * seconds, observation.rate(name, 2 * window) * 2 * seconds
    return (2 * late - both) / seconds**2, sqrt(both) / seconds**2
