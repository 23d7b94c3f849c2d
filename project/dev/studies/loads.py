"""The loads of the scaling study: calls in each second, drawn once as a Poisson stream, the same for every scaler."""

import csv
import random
from collections.abc import Callable, Mapping, Sequence
from math import pi, sin
from pathlib import Path

HOUR = 3600
DAY = 24 * HOUR
LONGEST = 366 * DAY  # of a trace; Unix seconds would be billions of seconds without a call

Calls = Sequence[int]  # in each second


def drawn(rate: Callable[[int], float], seconds: int, seed: int) -> Calls:
    """A Poisson stream whose rate is given for each second, in calls per second."""
    dice = random.Random(seed)
    return [poisson(rate(second), dice) for second in range(seconds)]


def poisson(mean: float, dice: random.Random) -> int:
    """How many calls come in a second: arrivals are exponentially far apart."""
    calls, at = 0, dice.expovariate(mean) if mean > 0 else 1.0
    while at < 1:
        calls, at = calls + 1, at + dice.expovariate(mean)
    return calls


def step(second: int) -> float:
    """Ten minutes of 8 calls per second, an hour of 55, then 8 again."""
    return 55.0 if 600 <= second < 4200 else 8.0


def ramp(second: int) -> float:
    """From 5 to 80 in an hour, and back."""
    return 5 + 75 * (1 - abs(second - HOUR) / HOUR)


def spikes(second: int) -> float:
    """12, and every ten minutes one minute of 60."""
    return 60.0 if second % 600 >= 540 else 12.0


def noisy_day() -> Calls:
    """From 4 at night to 44 by day, each five minutes by up to a fifth more or less."""
    dice = random.Random(4)
    wobble = [dice.uniform(0.8, 1.2) for _ in range(DAY // 300)]
    return drawn(lambda second: (24 - 20 * sin(2 * pi * second / DAY + pi / 2)) * wobble[second // 300], DAY, 5)


def trace(path: Path) -> Calls:
    """The calls of a file of lines `second,calls`; a second without a line had none.

    Raises ValueError naming the file, the line and its rule, and OSError.
    """
    calls: dict[int, int] = {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if number == 1 and row == ["second", "calls"]:
                continue
            if len(row) != 2 or not all(cell.isdecimal() for cell in row):
                raise ValueError(f"{path}:{number}: {','.join(row)!r} must be second,calls, two whole numbers from 0")
            if int(row[0]) > LONGEST:
                raise ValueError(f"{path}:{number}: second {row[0]} is above {LONGEST}: they are counted from 0")
            calls[int(row[0])] = calls.get(int(row[0]), 0) + int(row[1])
    if not calls:
        raise ValueError(f"{path}: no line of second,calls")
    return [calls.get(second, 0) for second in range(max(calls) + 1)]


def shapes() -> Mapping[str, Calls]:
    """The loads that need no file."""
    return {
        "step": drawn(step, 2 * HOUR, 1),
        "ramp": drawn(ramp, 2 * HOUR, 2),
        "spikes": drawn(spikes, 2 * HOUR, 3),
        "day": noisy_day(),
    }
