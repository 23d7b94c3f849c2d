"""`make bench [AGAINST=commit] [SIZES=1000,10000]`: the parts, then the whole service; ratios, and bench.json.

Two processors and little noise are needed: only ratios of one run tell anything. With AGAINST, the same is measured of
that commit, in a work tree of its own. One run takes about 20 minutes.
"""

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path

from dev.bench import parts
from dev.bench.service import Figures, environment, measure, platform
from dev.servers.replica import ROOT, work_tree
from dev.servers.services import Services

SIZES = "1000,10000,100000"
BOOKINGS = 10_000
RUNS = 3  # whose mean is taken, after three to warm up
WARN_INTERVAL, TICK = 10.0, 15.0  # seconds


def service(tree: Path, models: int, bookings: int, job: str, interval: float, **more: str) -> Figures:
    """One replica of the code in `tree`, on servers of its own."""
    with Services() as services, platform(models, bookings) as url:
        variables = environment(services, url, job.upper(), interval) | more
        return asyncio.run(measure(tree, variables, job, services.directory, RUNS))


def shown(name: str, found: Figures, models: int) -> str:
    """A row of the service's table."""
    cold, warm = (f"{1000 * stall:.0f}" for stall in found.stalls)
    return (
        f"| {name} | {found.cpu:.2f} | {1e6 * found.cpu / models:.0f} | {found.run:.2f} | {found.memory:.0f} "
        f"| {found.transactions:.0f} | {found.wal:.0f} | {cold} | {warm} |"
    )


def main() -> None:
    """Measure, print the tables, write bench.json."""
    against, report = os.environ.get("AGAINST", ""), dict[str, object]()
    sizes = [int(size) for size in (os.environ.get("SIZES") or SIZES).split(",")]
    print("| work | time | beside the peer | beside the limit | bar | found |\n|---|---|---|---|---|---|", flush=True)
    found = parts.rows()
    for row in found:
        print(row.shown(), flush=True)
    report["parts"] = [asdict(row) for row in found]
    print("\n| service | cpu s a run | us a model | run s | peak MB | transactions | WAL kB | stall ms cold | warm |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    runs = [(f"idle_warning, {BOOKINGS:,} bookings", BOOKINGS, BOOKINGS, "idle_warning", WARN_INTERVAL)]
    runs += [(f"rps_check, {size:,} models", size, 100, "rps_check", TICK) for size in sizes]
    for name, models, bookings, job, interval in runs:
        report[name] = asdict(ours := service(ROOT, models, bookings, job, interval))
        print(shown(name, ours, models), flush=True)
        if against:
            with work_tree(against) as tree:
                report[f"{name}, {against}"] = asdict(theirs := service(tree, models, bookings, job, interval))
            print(shown(f"the same at {against}", theirs, models), flush=True)
            print(
                f"| ratio | {ours.cpu / theirs.cpu:.2f} | | | {ours.memory / theirs.memory:.2f} | | | | |", flush=True
            )
    for number in range(2):
        name = f"rps_check, {sizes[-1]:,} models, SHARD={number}/2"
        report[name] = asdict(part := service(ROOT, sizes[-1], 100, "rps_check", TICK, SHARD=f"{number}/2"))
        print(shown(name, part, sizes[-1]), flush=True)
    Path("bench.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
