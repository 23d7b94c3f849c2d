"""`make dashboards`: plays the scene, and prints of every panel its query, what it must show, and what it shows."""

import asyncio
import os
import sys
import time

from rich.console import Console

from dev.dashboards.expected import expected
from dev.dashboards.prometheus import Prometheus, prometheus, queries
from dev.dashboards.scene import Scene, play, scene
from dev.servers.private_server import ServerFailed
from dev.servers.processes import ServerMissing
from dev.servers.replica import ReplicaFailed

OUT = Console(soft_wrap=True, highlight=False)


async def main() -> int:
    """The exit code: 0 if every panel shows what happened."""
    try:
        async with scene() as played, prometheus((one.port for one in played.replicas), played.directory) as source:
            await played.ready()
            await _scraped(source, time.time())  # Prometheus cannot know of what was counted before
            played.unscraped = played.calls()
            await play(played)
            await _scraped(source, time.time())
            wrong = await _compare(played, source)
            if picture := os.environ.get("PICTURE"):
                from dev.dashboards.picture import draw  # matplotlib is not part of the installation

                await draw(source, played.began, time.time(), picture)
    except (ReplicaFailed, ServerMissing, ServerFailed, TimeoutError) as error:
        OUT.print(f"cannot go on: {error}", style="red", markup=False)
        return 1
    return 1 if wrong else 0


async def _scraped(source: Prometheus, moment: float) -> None:
    """Wait until both replicas were scraped after the moment, twice: the second page shows what the first read."""
    async with asyncio.timeout(30):
        # Of a value made of none there is no result.
        while not (await source.get("query", query=f"min(timestamp(up == 1)) > {moment + 3}"))["result"]:
            await asyncio.sleep(0.2)


async def _compare(played: Scene, source: Prometheus) -> int:
    """Print every query; returns how many panels are wrong."""
    shown: dict[str, dict[str, float]] = {}
    known = await expected(played)
    for query in queries():
        shown.setdefault(query.panel, {}).update(await source.now(query))
    room, panel, wrong = "", "", 0
    for query in queries():
        if query.room != room:
            OUT.print(f"\n{(room := query.room)}", style="bold")
        if query.panel != panel:
            panel = query.panel
            problems = known[panel].wrong(shown[panel]) if panel in known else ["nobody knows what it must show"]
            wrong += bool(problems)
            OUT.print(f"  {panel}: {'wrong' if problems else 'right'}", style="red" if problems else "green")
            must = (f"{name or 'value'} {one}" for name, one in known[panel].series.items()) if panel in known else ()
            OUT.print(f"    expected  {', '.join(must) or f'every series {known[panel].others}'}", markup=False)
            values = (f"{name or 'value'} {value:.4g}" for name, value in shown[panel].items() if value)
            OUT.print(f"    shown     {', '.join(values) or '0'}", markup=False)
            for problem in problems:
                OUT.print(f"    {problem}", style="red", markup=False)
        OUT.print(f"    query     {query.expression}", markup=False)
    rules = [rule for group in (await source.get("rules"))["groups"] for rule in group["rules"]]
    broken = [rule["name"] for rule in rules if rule["health"] != "ok"]
    firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
    OUT.print(
        f"\n{len(known)} panels, {wrong} wrong; {len(rules)} alerts evaluated, broken: {broken}, firing: {firing}"
    )
    return wrong + len(broken)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
