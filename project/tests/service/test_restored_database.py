"""The database goes back to an earlier state while the platform goes on: nobody is harmed by what it does not know.

Stories as in `test_stories.py`: N = 60 minutes, Y = 15. A replica that lives through it notices; one that is started
after it cannot, and goes by what the database and the platform say.
"""

from datetime import UTC, datetime, timedelta

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Platform
from limiter.db import ledger, tables
from limiter.domain.job import Job
from limiter.runner.claim import Cause
from limiter.runner.guard import LockLost
from limiter.runner.run import Run
from tests.conftest import START, MakeBench
from tests.service.backups import back_up, put_back
from tests.service.commanding import SETTINGS, asked, command, plan
from tests.service.stories import Stage, Story, lines, text

UNINSTALL = {"UNINSTALL_ON_IDLE": "true"}
SCALES = {"SCALE_UP_WINDOW_SECONDS": 60, "SCALE_DOWN_WINDOW_SECONDS": 120, "SCALE_DOWN_STABILIZATION_SECONDS": 120}

STORIES = [
    Story(
        "a warning that it does not know is no warning: warned again, and cancelled Y after that",
        """0 ann books 0-180 180-240
        45 the database is backed up
        60 the database is put back
        60 the service restarts""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears warning of 180-240 from 75
        75 ann loses 180-240
        75 ann hears cancelled 180-240""",
    ),
    Story(
        "noticed by a replica that lives through it: a full N from then on",
        """0 ann books 0-180 180-240
        46 the database is backed up
        60 the database is put back""",
        """45 ann hears warning of 180-240 from 60
        120 ann loses 180-240
        120 ann hears cancelled 180-240""",
        step=5,
        until=120,
    ),
    Story(
        "a warning that it knows stands, and is held to its moment",
        """0 ann books 0-180 180-240
        46 the database is backed up
        50 the database is put back
        50 the service restarts""",
        """45 ann hears warning of 180-240 from 60
        60 ann loses 180-240
        60 ann hears cancelled 180-240""",
    ),
    Story(
        "used before the backup came back: recognised, and told once",
        """0 ann books 0-180 180-240
        46 the database is backed up
        50 m is called
        75 the database is put back
        75 the service restarts""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: used
        120 ann hears warning of 180-240 from 135
        135 ann loses 180-240
        135 ann hears cancelled 180-240""",
        until=135,
    ),
    Story(
        "used, and Entrypoint restarted since: the time in between is unknown, and no idle time",
        """0 ann books 0-180 180-240
        31 the database is backed up
        50 m is called
        59 entrypoint 0 restarts
        59 entrypoint 1 restarts
        60 the database is put back
        60 the service restarts""",
        """45 ann hears warning of 180-240 from 60
        75 ann hears warning of 180-240 from 90
        90 ann loses 180-240
        90 ann hears cancelled 180-240""",
    ),
    Story(
        "cancelled and told before: nothing is taken again, and nobody hears of another end",
        """0 ann books 0-180 180-240 240-300
        46 the database is backed up
        90 the database is put back
        90 the service restarts""",
        """45 ann hears warning of 180-240 240-300 from 60
        60 ann loses 180-240
        60 ann loses 240-300
        60 ann hears cancelled 180-240 240-300""",
    ),
    Story(
        "kept before after a part was taken, which it does not know: the rest is taken, and told too",
        """0 ann books 0-180 180-240 240-300
        46 the database is backed up
        50 after the first cancellation: the operator keeps m until 70
        75 the database is put back
        75 the service restarts""",
        """45 ann hears warning of 180-240 240-300 from 60
        60 ann loses 180-240
        60 ann hears cancelled 180-240
        75 ann loses 240-300
        75 ann hears cancelled 240-300 180-240 (already gone)""",
    ),
    Story(
        "uninstalled before: not again",
        """0 ann books 0-180 180-240
        46 the database is backed up
        90 the database is put back
        90 the service restarts""",
        """45 ann hears warning of 180-240 from 60
        60 ann loses 180-240
        60 m is uninstalled
        75 ann hears cancelled 180-240 uninstalled""",
        settings=UNINSTALL,
    ),
    Story(
        "a keep that it does not know: the user has a full N from when that is noticed",
        """0 ann books 0-240 240-300
        46 the database is backed up
        50 the operator keeps m until 240
        75 the database is put back""",
        """45 ann hears warning of 240-300 from 60
        60 ann hears withdrawn: kept
        135 ann loses 240-300
        135 ann hears cancelled 240-300""",
        until=135,
    ),
    Story(
        "a scale that was carried out is not repeated",
        """0 m is called 25 times a second
        1 the database is backed up
        3 the database is put back
        3 the service restarts""",
        "1 m scales to 3",
        step=1,
        until=8,
        settings=SCALES,
    ),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
async def test_story(make_bench: MakeBench, time: FrozenDateTimeFactory, story: Story) -> None:
    stage = Stage(await make_bench(**story.settings), time, make_bench)
    assert text(await stage.play(story)) == text(lines(story.acts))
    assert stage.platform.violations == []


async def test_what_was_sent_and_not_recorded_goes_out_again_as_the_same_message_and_counts_anew(
    make_bench: MakeBench, platform: Platform, time: FrozenDateTimeFactory
) -> None:
    """A standby takes over that lacks the last ten seconds, in which the warning went out."""
    bench = await make_bench()
    for name in ("m", "other"):
        platform.add_model(name)
    platform.set_rate("other", 1.0)
    platform.call("m")
    hours = [(START + timedelta(hours=hour), START + timedelta(hours=hour + 2)) for hour in (0, 2)]
    platform.add_reservation("00000000-0000-0000-0000-000000000001", "ann", "m", slots=hours)
    await bench.run(Job.RPS_CHECK)
    time.tick(timedelta(minutes=45))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING)
    backup = await back_up(bench.engine)
    await bench.run(Job.EVENT_DISPATCH)
    (first,) = await bench.events()
    time.tick(timedelta(seconds=10))
    await put_back(bench.engine, backup)
    await bench.run(Job.EVENT_DISPATCH)
    (again,) = await bench.events()
    assert again["message_id"] == first["message_id"]
    assert again["reservation"]["cancel_not_before"] == "2026-03-02T11:00:10+00:00"
    (spell,) = await bench.rows(tables.idle_spell)
    assert spell.delivered_at == START + timedelta(minutes=45, seconds=10)


async def test_a_command_that_it_calls_unsent_is_not_sent(
    make_bench: MakeBench, platform: Platform, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(**SETTINGS)
    await plan(bench)
    backup = await back_up(bench.engine)
    await bench.run(Job.SAGA_POLL, Job.EVENT_DISPATCH)
    assert asked(platform) == [3]
    await put_back(bench.engine, backup)
    await bench.run(Job.SAGA_POLL)
    assert asked(platform) == [3]
    assert (await command(bench)).error == "never sent, as far as a database that was put back knows"
    assert bench.criticals() == {"database_put_back": 1}
    async with bench.engine.connect() as connection:
        assert await ledger.unfinished(connection) == []


async def test_a_run_from_before_cannot_write_although_its_epoch_was_given_again(make_bench: MakeBench) -> None:
    old, new = await make_bench(), await make_bench()
    backup = await back_up(old.engine)
    async with old.replica.lock.acquire(Job.RPS_CHECK) as guard:
        assert guard is not None
        claim = await old.replica.table.claim(Job.RPS_CHECK, 3600, Cause.SCHEDULE)
        assert claim is not None
        await put_back(old.engine, backup)
        again = await new.replica.table.claim(Job.RPS_CHECK, 3600, Cause.SCHEDULE)
        assert again is not None
        assert again.epoch == claim.epoch
        with pytest.raises(LockLost, match="another replica took the job"):
            async with Run(claim, START, guard, old.engine, old.telemetry).write():
                pytest.fail("a write of a run that is not there went through")
        async with Run(again, START, guard, new.engine, new.telemetry).write():
            pass


async def test_idle_time_counts_from_the_databases_time_if_who_notices_has_a_wrong_clock(make_bench: MakeBench) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=5)
    backup = await back_up(bench.engine)
    await bench.run(Job.EVENT_DISPATCH, Job.EVENT_DISPATCH)
    await put_back(bench.engine, backup)
    bench.scheduler._clock = lambda: datetime.now(UTC) + timedelta(hours=1)
    await bench.scheduler.tick(Job.EVENT_DISPATCH)
    resumed = {row.name: row.resumed_at for row in await bench.rows(tables.job)}
    assert resumed[Job.IDLE_WARNING] < datetime.now(UTC)
    assert resumed[Job.IDLE_ENFORCE] == resumed[Job.IDLE_WARNING]
    assert resumed[Job.RPS_CHECK] is None
