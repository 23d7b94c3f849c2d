"""The fault suite in its short form: the drill, and every kind of fault once; `make faults` is the long one."""

import pytest

from dev.chaos.nemesis import Nemesis
from dev.chaos.run import FREEZE_LIMIT, KILL_LIMIT, each_once, run


async def calm(_: Nemesis) -> None:
    """No fault after the drill."""


@pytest.mark.waits(80)
async def test_no_invariant_breaks_while_every_part_does() -> None:
    kinds: set[str] = set()

    async def every_kind(nemesis: Nemesis) -> None:
        found = (*nemesis.faults_of_replicas(), *nemesis.faults_of_servers(), *nemesis.faults_of_cancelling())
        kinds.update(kind.__name__ for kind in found)
        await each_once(nemesis)

    result = await run(1, every_kind, drilled=False)
    result.show("short form")
    assert result.problems == []
    assert len(kinds) >= 19  # 20 where a small disk may be mounted for Postgres to be without room
    assert result.injected.keys() == kinds
    assert result.figures["refusals"] > 0
    assert result.figures["uninstalls"] > 0
    assert result.figures["deletions"] > 0
    assert result.figures["events"] > 0


@pytest.mark.waits(40)
async def test_the_jobs_of_a_killed_and_of_a_frozen_replica_go_on_in_time() -> None:
    result = await run(2, calm)
    result.show("drill")
    assert result.problems == []
    assert result.after_kill[0] <= KILL_LIMIT
    assert result.after_freeze[0] <= FREEZE_LIMIT
    assert result.figures["runs lost"] >= 2
