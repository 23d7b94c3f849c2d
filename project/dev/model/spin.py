"""Runs spin on one configuration: translate, compile, search; all of it, or it is an error."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dev.model.configurations import HOLDS, Configuration

MODELS = Path(__file__).parent
DEPTH = 1_000_000  # steps; a search that would go deeper is an error
STEP = re.compile(r"^\s*\d+:\s+proc\s+(\d+) \((\S+?):\d+\) \S+?:(\d+) \(state \d+\)\s+\[(.*)\]$")
UNFINISHED = ("max search depth too small", "out of memory", "reached -DMEMLIM", "hash table full")


class SpinFailed(Exception):
    """The tools said something else than a result."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What spin said of a configuration: `holds`, or the property that is broken, and the way there."""

    outcome: str
    states: int
    seconds: float
    trail: tuple[str, ...] = ()


def check(configuration: Configuration) -> SearchResult:
    """Search all states of a configuration; raises SpinFailed."""
    with tempfile.TemporaryDirectory(prefix="rps-limiter-model-") as directory:
        place = Path(directory)
        file = f"{configuration.model}.pml"
        (place / file).write_text((MODELS / file).read_text())
        flags = [f"-D{flag}" for flag in configuration.flags]
        if configuration.liveness is not None:
            flags.append("-DLIVENESS")
        _run(place, "spin", "-a", *flags, file)
        _run(place, "gcc", "-O2", "-w", *_compiled(configuration), "-o", "pan", "pan.c")
        said = _run(place, "./pan", f"-m{DEPTH}", "-b", "-w24", *_searched(configuration), failing=True)
        trail: tuple[str, ...] = ()
        if list(place.glob("*.trail")):
            trail = tuple(steps(_run(place, "spin", "-t", "-p", *flags, file, failing=True)))
        return result_of(said, configuration.liveness, trail)


def _compiled(configuration: Configuration) -> list[str]:
    """A broken assertion is searched for in breadth, so that the way there is a shortest one."""
    if configuration.liveness is not None:
        return ["-DNFAIR=3"]  # enough for ten processes
    return ["-DSAFETY", "-DNOCLAIM", *([] if configuration.whole else ["-DBFS"])]


def _searched(configuration: Configuration) -> list[str]:
    """Acceptance cycles with weak fairness, or assertions; a replica that waits for ever is no error in itself."""
    return ["-E"] if configuration.liveness is None else ["-a", "-f", "-A"]


def _run(place: Path, *command: str, failing: bool = False) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode and not failing:
        raise SpinFailed(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def result_of(said: str, liveness: str | None = None, trail: tuple[str, ...] = ()) -> SearchResult:
    """The verdict in the words of the search; raises SpinFailed if it did not search everything."""
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"^\s*(\d+) states, stored", said, re.MULTILINE)
    seconds = re.search(r"elapsed time ([\d.e+]+) seconds", said)
    if not errors or not states or not seconds or any(words in said for words in UNFINISHED):
        raise SpinFailed(said)
    figures = int(states[1]), float(seconds[1])
    if errors[1] == "0":
        if "Search not completed" in said:
            raise SpinFailed(said)
        return SearchResult(HOLDS, *figures)
    if liveness is not None and "acceptance cycle (at depth" in said:
        return SearchResult(liveness, *figures, trail)
    broken = re.search(r"assertion violated\s+\W*(\w+)", said)
    if broken is None:
        raise SpinFailed(said)
    return SearchResult(broken[1], *figures, trail)


def steps(printed: str) -> list[str]:
    """The steps of a trail: who, the line of the model, what; questions that change nothing are left out."""
    found = []
    for line in printed.splitlines():
        if "START OF CYCLE" in line:
            found.append("from here on for ever:")
        step = STEP.match(line)
        if step and (" = " in step[4] or "assert" in step[4]):
            found.append(f"{step[2]} {step[1]}, line {step[3]}: {step[4]}")
    return found
