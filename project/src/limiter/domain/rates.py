"""Calls per second, from samples of calls counted."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    """Calls counted in the `seconds` before `until` (Unix seconds); time without a sample had no calls."""

    until: float
    seconds: float
    calls: float


def mean_rate(samples: Sequence[Sample], at: float, span: float) -> float:
    """Calls per second over `span` seconds before `at`; of samples in order of time, one cut short counts in part."""
    return mean_rates(samples, at, (span,))[0]


def mean_rates(samples: Sequence[Sample], at: float, spans: Iterable[float]) -> Sequence[float]:
    """The same for several spans, the shortest first."""
    rates, whole, left = [], 0.0, len(samples)  # what lies wholly in one span does so in the next
    for span in spans:
        edge = at - span
        while left:
            until, seconds, counted = samples[left - 1]
            if until - seconds < edge:
                break
            whole += counted
            left -= 1
        calls = whole
        for until, seconds, counted in reversed(samples[:left]):
            if until <= edge:
                break
            calls += counted if until - seconds >= edge else counted * (until - edge) / seconds
        rates.append(calls / span if calls else 0.0)
    return rates
