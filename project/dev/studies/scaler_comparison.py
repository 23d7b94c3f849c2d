"""`make compare`: our scaling beside Kubernetes HPA's, Knative's, and one that knows the future.

TRACE=file.csv TARGET=1.5 JSON=points.json PICTURES=docs make compare

Each scaler is told that a replica carries from 50 % to 130 % of what it really does; replicas are ready after 40 s, and
after 120 s. TRACE is a load of your own, lines of `second,calls`, of which a replica carries TARGET calls per second.
JSON is where to write every point of every scaler, PICTURES the folder for a picture of each load. SETTINGS is a JSON
object of settings to try in place of the defaults: SETTINGS='{"SCALE_DOWN_HEADROOM": 0.95}'.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from dev.studies import loads
from dev.studies.scalers import Cluster, Scaler, hpa, knative, oracle, ours, simulate
from limiter.config.policy import PolicySettings

TARGET = 10.0  # calls per second that a replica carries, of the loads that are drawn
READY_AFTER = (40, 120)  # seconds
UTILIZATIONS = tuple(percent / 100 for percent in range(50, 131, 5))
SCALERS: Mapping[str, Callable[[float], Scaler]] = {
    "rps-limiter": ours,
    "hpa": hpa,
    "knative": knative,
    "oracle": oracle,
}
DEFAULTS = {"rps-limiter": 1.0, "hpa": 1.0, "knative": 0.7, "oracle": 1.0}
_LOADS: dict[str, tuple[loads.Calls, float]] = {}  # of this process
_TRIED: dict[str, Any] = {}  # settings in place of the defaults, likewise


@dataclass(frozen=True, slots=True)
class Point:
    """What one scaler came to under one load; `calls_short` is a share of all calls."""

    load: str
    scaler: str
    utilization: float
    ready_after: int
    calls_short: float
    seconds_short: int
    replica_hours: float
    reversals: int
    default: bool

    def fields(self) -> dict[str, object]:
        """As JSON; only the point at the defaults says that it is one."""
        return {name: value for name, value in asdict(self).items() if name != "default" or value}


def point(load: str, calls: loads.Calls, target: float, scaler: str, utilization: float, ready_after: int) -> Point:
    made: Callable[[float], Scaler] = partial(ours, **_TRIED) if scaler == "rps-limiter" else SCALERS[scaler]
    cluster: Cluster = simulate(calls, target, ready_after, made(target * utilization))
    return Point(
        load=load,
        scaler=scaler,
        utilization=utilization,
        ready_after=ready_after,
        calls_short=round(cluster.calls_short / max(1, cluster.counter[-1]), 6),
        seconds_short=cluster.seconds_short,
        replica_hours=round(cluster.replica_seconds / 3600, 3),
        reversals=cluster.reversals,
        default=utilization == DEFAULTS[scaler],
    )


def defaults(load: str, calls: loads.Calls, target: float = TARGET) -> list[Point]:
    """The points of one load at every scaler's defaults."""
    return [
        point(load, calls, target, name, DEFAULTS[name], ready_after) for ready_after in READY_AFTER for name in SCALERS
    ]


def table(points: Iterable[Point]) -> str:
    """The points as the lines of a Markdown table."""
    return "\n".join(
        f"| {one.load} | {one.ready_after} s | {one.scaler} | {one.calls_short:.2%} | {one.seconds_short} | "
        f"{one.replica_hours:.1f} | {one.reversals} |"
        for one in points
    )


def sweep(given: Mapping[str, tuple[loads.Calls, float]]) -> list[Point]:
    """Every point of every scaler under every load."""
    tasks = [
        (load, scaler, utilization, ready_after)
        for load in given
        for ready_after in READY_AFTER
        for scaler in SCALERS
        for utilization in UTILIZATIONS
    ]
    with ProcessPoolExecutor(initializer=_begin, initargs=(given, dict(_TRIED))) as pool:
        return list(pool.map(_task, tasks, chunksize=4))


def _begin(given: Mapping[str, tuple[loads.Calls, float]], settings: Mapping[str, Any]) -> None:
    _LOADS.update(given)
    _TRIED.update(settings)


def _task(task: tuple[str, str, float, int]) -> Point:
    load, scaler, utilization, ready_after = task
    return point(load, *_LOADS[load], scaler, utilization, ready_after)


def tried(text: str) -> dict[str, object]:
    """The settings to try in place of the defaults; raises ValueError naming the one that is wrong and its rule."""
    given = json.loads(text or "{}")
    if not isinstance(given, dict):
        raise ValueError(f"{text}: not a JSON object")
    settings = {name.lower(): value for name, value in given.items()}
    if unknown := settings.keys() - PolicySettings.model_fields.keys():
        raise ValueError(f"{min(unknown).upper()}: there is no such setting")
    ours(TARGET, **settings)
    return settings


def draw(points: Sequence[Point], load: str, path: Path) -> None:
    """The frontier of one load: calls short against replica-hours, the defaults as large dots."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(READY_AFTER), figsize=(11, 4.5), sharey=True)
    for panel, ready_after in zip(panels, READY_AFTER, strict=True):
        for scaler in SCALERS:
            of = [one for one in points if (one.load, one.scaler, one.ready_after) == (load, scaler, ready_after)]
            hours, short = [one.replica_hours for one in of], [100 * one.calls_short for one in of]
            (line,) = panel.plot(hours, short, marker=".", label=scaler)
            usual = [one for one in of if one.default]
            panel.plot(usual[0].replica_hours, 100 * usual[0].calls_short, marker="o", color=line.get_color())
        panel.set(title=f"{load}, replicas ready after {ready_after} s", xlabel="replica-hours")
        panel.set_yscale("symlog", linthresh=0.1)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("calls that found no capacity, %")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    pyplot.close(figure)


def carried(text: str) -> float:
    """The calls per second that a replica carries; raises ValueError."""
    try:
        if 0 < (target := float(text)) < inf:
            return target
    except ValueError:
        pass
    raise ValueError(f"TARGET={text!r}: must be a number above 0")


def main() -> int:
    given = {load: (calls, TARGET) for load, calls in loads.shapes().items()}
    try:
        _TRIED.update(tried(os.environ.get("SETTINGS", "")))
    except ValueError as error:
        print(f"SETTINGS: {error}", file=sys.stderr)
        return 1
    if trace := os.environ.get("TRACE"):
        try:
            given["trace"] = (loads.trace(Path(trace)), carried(os.environ.get("TARGET", str(TARGET))))
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    points = sweep(given)
    print("| load | ready after | scaler | calls short | seconds short | replica-hours | reversals |")
    print("|---|---|---|---:|---:|---:|---:|")
    print(table(one for one in points if one.default))
    if path := os.environ.get("JSON"):
        Path(path).write_text(json.dumps([one.fields() for one in points], indent=1) + "\n")
    if folder := os.environ.get("PICTURES"):
        for load in given:
            draw(points, load, Path(folder) / f"frontier-{load}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
