"""`make upgrade-test`: replicas of the last release and of this one side by side, and a migration under their feet.

FROM=v1.1.0 UPGRADE_SECONDS=120 make upgrade-test

Two replicas of the release run on its schema, then on the migrated one, then beside two of this version, then these
run alone; there are faults all the while, but for the migration. The history is checked as that of `make faults`, and
no replica may have met an error of the schema.
"""

import asyncio
import os
import subprocess
import sys
import time

from dev.chaos.nemesis import Nemesis
from dev.chaos.run import all_ready, run, track, users
from dev.servers.replica import ROOT, migrate, work_tree
from limiter import VERSION

SEED = 1
SHARES = {"the release alone": 0.2, "the release on the new schema": 0.2, "both": 0.4, "this version alone": 0.2}


async def upgrade(nemesis: Nemesis, seconds: float) -> None:
    """From the release to this version, in so many seconds and the time that the replicas need."""
    old = list(nemesis.members)
    for step, share in SHARES.items():
        if step == "the release on the new schema":
            await migrate(nemesis.variables)
        elif step == "both":
            nemesis.root = ROOT
            for _ in old:
                await nemesis.add_replica()
            await all_ready(nemesis)
        elif step == "this version alone":
            for member in [member for member in nemesis.members if member.root != ROOT]:
                await nemesis.end(member)
        began = time.monotonic()
        await _storm(nemesis, began + share * seconds)
        print(f"  {step}: {time.monotonic() - began:.0f} s, {len(nemesis.members)} replicas", flush=True)


async def _storm(nemesis: Nemesis, until: float) -> None:
    """Faults that leave a replica's code as it is, and users."""
    servers = (nemesis.bounce_pgbouncer, nemesis.bounce_postgres, nemesis.bounce_rabbitmq, nemesis.lose_answers)
    async with asyncio.TaskGroup() as group:
        group.create_task(track(nemesis, (nemesis.kill_replica, nemesis.freeze_replica, nemesis.cut_network), until))
        group.create_task(track(nemesis, servers, until))
        group.create_task(users(nemesis, until))
    nemesis.platform.clear_faults()


def last_release() -> str:
    """The newest tag of an earlier version; without tags, the commit that made it; empty if there is none."""
    tagged = _git("describe", "--tags", "--abbrev=0", f"--exclude=v{VERSION}")
    made = _git("log", "--format=%h %s", "--grep=^Version [0-9.]*$").splitlines()
    earlier = [line.split()[0] for line in made if not line.endswith(f" {VERSION}")]
    return tagged or next(iter(earlier), "")


def _git(*arguments: str) -> str:
    """What git prints; empty if it fails, as without any tag."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    """Run it from the release FROM, in UPGRADE_SECONDS; returns 1 if there is a problem."""
    release, seconds = os.environ.get("FROM") or last_release(), float(os.environ.get("UPGRADE_SECONDS") or 120)
    if not release:
        print("no release is tagged yet: FROM=commit make upgrade-test", file=sys.stderr)
        return 2
    with work_tree(release) as tree:
        print(f"from {release}", flush=True)
        result = asyncio.run(run(SEED, lambda nemesis: upgrade(nemesis, seconds), drilled=False, replicas=2, root=tree))
    result.show(f"upgrade from {release} in {seconds:g} s")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
