"""`make steady`: a day of each constant load, as a Poisson stream; how often each model changes direction."""

import sys
from concurrent.futures import ProcessPoolExecutor
from statistics import median

from dev.studies.loads import DAY, drawn
from dev.studies.scalers import ours, simulate
from dev.wording import counted

TARGET = 10.0  # calls per second that a replica carries
RATES = (0.5, 1, 2, 3, 5, 7, 9, 10, 10.5, 11, 12, 14, 18, 20, 21, 28, 33, 50, 60, 77, 100, 150, 200)
READY_AFTER = 40  # seconds


def reversals(rate: float) -> int:
    """How often a model with our defaults changes direction in a day."""
    return simulate(drawn(lambda _: rate, DAY, 100), TARGET, READY_AFTER, ours(TARGET)).reversals


def main() -> int:
    """Print the reversals; returns 1 if a model reversed twice in a day, or most did at all."""
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(reversals, RATES))
    shown = ", ".join(f"{rate:g}: {back}" for rate, back in zip(RATES, found, strict=True))
    print(f"{counted(len(RATES), 'day')} of constant load, reversals by calls per second: {shown}")
    print(f"at most {max(found)} a day, median {median(found):g}")
    return int(max(found) > 1 or median(found) > 0)


if __name__ == "__main__":
    sys.exit(main())
