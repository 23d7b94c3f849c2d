"""`make compare`: our scaling beside Kubernetes HPA's, Knative's, and one that knows the future.

TRACE=file.csv TARGET=1.5 JSON=points.json PICTURES=docs make compare

Each scaler is told that a replica carries from 50 % to 130 % of what it really does; replicas are ready after 40 s, and
after 120 s. TRACE is a load of your own, lines of `second,calls`, of which a replica carries TARGET calls per second.
JSON is where to write every point of every scaler, PICTURES the folder for a picture of each load.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.studies import loads
from dev.studies.scalers import Cluster, Scaler, hpa, knative, oracle, ours, simulate

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
    cluster: Cluster = simulate(calls, target, ready_after, SCALERS[scaler](target * utilization))
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
    with ProcessPoolExecutor(initializer=_LOADS.update, initargs=(given,)) as pool:
        return list(pool.map(_task, tasks, chunksize=4))


def _task(task: tuple[str, str, float, int]) -> Point:
    load, scaler, utilization, ready_after = task
    return point(load, *_LOADS[load], scaler, utilization, ready_after)


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


def main() -> int:
    given = {load: (calls, TARGET) for load, calls in loads.shapes().items()}
    if trace := os.environ.get("TRACE"):
        try:
            given["trace"] = (loads.trace(Path(trace)), float(os.environ.get("TARGET", TARGET)))
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
