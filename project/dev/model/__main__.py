"""`make model [TRAIL=WITHOUT_FENCE]`: the protocol's models, whole and with each safeguard removed, checked by spin.

Prints a row for each configuration, and the way to what was not expected; with TRAIL also the counterexamples of that
safeguard. Exits with 1 unless everything is as expected. Takes about two minutes on two processors.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from dev.model.configurations import NOT_NEEDED, REMOVED, WHOLE, Configuration
from dev.model.spin import SearchResult, SpinFailed, check
from dev.wording import counted

AT_ONCE = 2
STEPS_SHOWN = 60


def row(configuration: Configuration, result: SearchResult) -> str:
    """A row of the table."""
    cells = (configuration.model, configuration.name, configuration.expected, result.outcome)
    return f"| {' | '.join(cells)} | {result.states:,} | {result.seconds:.1f} |"


def show(configuration: Configuration, result: SearchResult, wanted: str) -> bool:
    """Print the row, and the way to what was not expected; returns whether it was."""
    print(row(configuration, result), flush=True)
    expected = result.outcome == configuration.expected
    if not expected or (wanted and wanted in configuration.flags):
        for step in result.trail[-STEPS_SHOWN:]:
            print(f"    {step}", flush=True)
    return expected


def main() -> int:
    """Check everything, two at a time, the longest first."""
    wanted, started = os.environ.get("TRAIL", ""), time.monotonic()
    everything = [*WHOLE, *NOT_NEEDED, *REMOVED]
    print("| model | configuration | expected | outcome | states | seconds |\n|---|---|---|---|---|---|", flush=True)
    right = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(check, configuration): configuration for configuration in everything}
        for done in as_completed(running):
            try:
                right += show(running[done], done.result(), wanted)
            except SpinFailed as error:
                print(f"{running[done].model} {running[done].name}: {error}", file=sys.stderr, flush=True)
    seconds = time.monotonic() - started
    print(f"{counted(len(everything), 'configuration')}, {right} as expected, {seconds:.0f} s")
    return 0 if right == len(everything) else 1


if __name__ == "__main__":
    sys.exit(main())
