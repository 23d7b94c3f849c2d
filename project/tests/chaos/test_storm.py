"""The fault suite in its short form: the drill, and every kind of fault once; `make faults` is the long one."""

from dev.chaos.run import FREEZE_LIMIT, KILL_LIMIT, each_once, run


async def test_no_invariant_breaks_while_every_part_does() -> None:
    result = await run(1, each_once)
    result.show("short form")
    assert result.problems == []
    assert len(result.injected) == 14
    assert result.figures["refusals"] > 0
    assert result.figures["uninstalls"] > 0
    assert result.after_kill[0] <= KILL_LIMIT
    assert result.after_freeze[0] <= FREEZE_LIMIT
    assert result.figures["deletions"] > 0
    assert result.figures["events"] > 0
    assert result.figures["runs lost"] >= 2
