"""The warning and unbooking timelines, second by second: the composed service, real Postgres, frozen time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Platform
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench

ANN, BEN = str(UUID(int=1)), str(UUID(int=2))
MODEL, OTHER = "Google/Medgemma-27b-it", "Openai/Gpt-oss-120b"
N, Y = timedelta(minutes=60), timedelta(minutes=15)
SWEEP = (Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)


class Story:
    """A bench with a clock: minutes after 10:00, and what the user hears."""

    def __init__(self, bench: Bench, time: FrozenDateTimeFactory) -> None:
        self.bench, self.platform, self.clock = bench, bench.platform, time

    async def at(self, moment: timedelta, *jobs: Job) -> list[str]:
        """Move to that time after the start, run the jobs (all, if none is named), and return what the user heard."""
        self.clock.move_to(START + moment)
        await self.bench.run(*(jobs or SWEEP))
        return await self.bench.stages()

    def cancelled(self) -> list[datetime]:
        """The starts of the slots that were cancelled, in order."""
        return sorted(
            datetime.fromtimestamp(slot.start, UTC) for deletion in self.platform.deletions for slot in deletion.slots
        )


def hours(start: float, end: float) -> tuple[datetime, datetime]:
    return START + timedelta(hours=start), START + timedelta(hours=end)


@pytest.fixture
async def story(make_bench: MakeBench, time: FrozenDateTimeFactory) -> Story:
    return await begin(make_bench, time)


async def begin(make_bench: MakeBench, time: FrozenDateTimeFactory, **settings: object) -> Story:
    """Two models known to run since 10:00, one of them called then; nobody has booked yet."""
    story = Story(await make_bench(**settings), time)
    story.platform.add_model(MODEL)
    story.platform.add_model(OTHER)
    story.platform.call(OTHER)
    await story.bench.run(Job.RPS_CHECK)
    return story


def book(platform: Platform, user: str, *slots: tuple[datetime, datetime], name: str = MODEL) -> str:
    return platform.add_reservation(user, f"user{user[-1]}", name, slots=list(slots)).id


async def test_warns_at_n_minus_y_and_not_a_second_before(story: Story) -> None:
    book(story.platform, ANN, hours(0, 1), hours(1, 2))
    assert await story.at(N - Y - timedelta(seconds=1)) == []
    assert await story.at(N - Y) == ["warning"]
    assert await story.at(N - Y + timedelta(minutes=1)) == []


async def test_cancels_at_n_and_not_a_second_before(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    await story.at(N - Y)
    assert await story.at(N - timedelta(seconds=1)) == []
    assert story.cancelled() == []
    assert await story.at(N) == ["cancelled"]
    assert story.cancelled() == [hours(2, 3)[0]]
    assert await story.at(N + timedelta(minutes=1)) == []


async def test_a_late_warning_delays_the_cancelling_by_as_much(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    late = N + timedelta(minutes=7)
    assert await story.at(late) == ["warning"]
    assert await story.at(late + Y - timedelta(seconds=1)) == []
    assert story.cancelled() == []
    assert await story.at(late + Y) == ["cancelled"]


async def test_no_idle_time_reaches_back_beyond_the_spell_before_however_long_ago_that_ended(story: Story) -> None:
    book(story.platform, ANN, hours(0, 9), hours(9, 10))
    await story.at(N - Y)
    await story.at(N)
    book(story.platform, ANN, hours(9, 10))
    assert await _idle_since(story, 3 * N) == START + N


async def test_no_idle_time_reaches_back_beyond_what_is_remembered(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    story = await begin(make_bench, time, HISTORY_RETENTION_SECONDS=7200)
    book(story.platform, ANN, hours(0, 9), hours(9, 10))
    assert await _idle_since(story, 5 * N) == START + 3 * N


async def _idle_since(story: Story, moment: timedelta) -> datetime:
    await story.at(moment - N, Job.RPS_CHECK)
    await story.bench.events()
    story.clock.move_to(START + moment)
    await story.bench.run(Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    (warning,) = await story.bench.events()
    return datetime.fromisoformat(warning["reservation"]["idle_since"])


async def test_in_row_stops_at_the_first_pause_longer_than_the_gap(story: Story) -> None:
    minutes = 1 / 60
    book(story.platform, ANN, hours(0, 2), hours(2 + 5 * minutes, 3), hours(3 + 5.1 * minutes, 4))
    await story.at(N - Y)
    await story.at(N)
    assert story.cancelled() == [hours(2 + 5 * minutes, 3)[0]]


async def test_all_takes_every_later_slot_of_that_user_and_model(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    story = await begin(make_bench, time, UNBOOKING_MODE="ALL")
    book(story.platform, ANN, hours(0, 2))
    book(story.platform, ANN, hours(5, 6), hours(30, 31))
    book(story.platform, ANN, hours(5, 6), name=OTHER)
    book(story.platform, BEN, hours(7, 8))
    await story.at(N - Y)
    await story.at(N)
    assert story.cancelled() == [hours(5, 6)[0], hours(30, 31)[0]]


async def test_a_whole_reservation_goes_in_one_delete_and_a_part_of_one_slot_by_slot(story: Story) -> None:
    part = book(story.platform, ANN, hours(0, 2), hours(2, 3))
    whole = book(story.platform, ANN, hours(3, 4), hours(4, 5))
    await story.at(N - Y)
    await story.at(N)
    assert [(gone.reservation_id, gone.slot_id is None) for gone in story.platform.deletions] == [
        (part, False),
        (whole, True),
    ]


async def test_another_users_slot_is_never_cancelled(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    bens = book(story.platform, BEN, hours(2, 3), hours(3, 4))
    await story.at(N - Y)
    await story.at(N)
    assert [gone.user.id for gone in story.platform.deletions] == [ANN]
    assert bens in {reservation.id for reservation in story.platform.reservations}


async def test_the_row_of_slots_carries_idle_time_across_a_slots_end(story: Story) -> None:
    book(story.platform, ANN, hours(0, 0.5), hours(0.5, 1.5), hours(1.5, 2.5))
    assert await story.at(N - Y - timedelta(seconds=1)) == []
    assert await story.at(N - Y) == ["warning"]
    assert await story.at(N) == ["cancelled"]
    assert story.cancelled() == [hours(1.5, 2.5)[0]]


async def test_a_pause_longer_than_the_gap_starts_the_clock_anew(story: Story) -> None:
    book(story.platform, ANN, hours(0, 0.5))
    book(story.platform, ANN, hours(0.75, 3), hours(3, 4))
    assert await story.at(N) == []
    assert await story.at(timedelta(hours=0.75) + N - Y) == ["warning"]


async def test_use_a_second_before_the_warning_needs_a_full_n_again(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 4))
    used = N - Y - timedelta(seconds=1)
    await story.at(used - timedelta(seconds=1), Job.RPS_CHECK)
    story.platform.call(MODEL)
    assert await story.at(used) == []
    assert await story.at(used + N - Y - timedelta(seconds=1)) == []
    assert await story.at(used + N - Y) == ["warning"]


async def test_use_a_second_before_the_deadline_withdraws_and_the_user_is_told(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 4))
    await story.at(N - Y)
    story.platform.call(MODEL)
    used = N - timedelta(seconds=1)
    assert await story.at(used) == ["withdrawn"]
    assert await story.at(N) == []
    assert story.cancelled() == []
    assert await story.at(used + N - Y - timedelta(seconds=1)) == []
    assert await story.at(used + N - Y) == ["warning"]


async def test_use_that_only_the_last_snapshot_shows_still_saves_the_booking(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    await story.at(N - Y)
    story.platform.call(MODEL)
    assert await story.at(N, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH) == ["withdrawn"]
    assert story.cancelled() == []


async def test_sparse_traffic_elsewhere_delays_no_warning(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    story.platform.set_rate(OTHER, 4)
    await story.at(N - Y - timedelta(seconds=15), Job.RPS_CHECK)
    await story.at(N - Y, Job.RPS_CHECK)
    # The snapshot is read before the next call is due.
    assert await story.at(N - Y + timedelta(seconds=0.1), Job.IDLE_WARNING, Job.EVENT_DISPATCH) == ["warning"]


async def test_a_fleet_that_falls_silent_is_distrusted_until_the_next_tick_by_every_job(story: Story) -> None:
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    quiet = N - Y
    await story.at(quiet - timedelta(seconds=30), Job.RPS_CHECK)
    story.platform.call(OTHER, 4)
    await story.at(quiet - timedelta(seconds=15), Job.RPS_CHECK)
    assert await story.at(quiet) == []
    assert await story.at(quiet + timedelta(seconds=1), Job.IDLE_WARNING, Job.EVENT_DISPATCH) == []
    assert await story.at(quiet + timedelta(seconds=15)) == ["warning"]


async def test_nothing_following_means_no_warning(story: Story) -> None:
    book(story.platform, ANN, hours(0, 3))
    assert await story.at(N) == []


async def test_the_current_slot_goes_too_when_configured(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    story = await begin(make_bench, time, UNBOOK_CURRENT_SLOT="true")
    book(story.platform, ANN, hours(0, 2))
    assert await story.at(N - Y) == ["warning"]
    assert await story.at(N) == ["cancelled"]
    assert story.cancelled() == [START]


async def test_an_unknown_address_blocks_warning_and_cancelling_until_it_arrives(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    story = await begin(make_bench, time, USER_EMAIL_TEMPLATE="")
    book(story.platform, ANN, hours(0, 3), hours(3, 4))
    assert await story.at(N) == []
    assert story.bench.criticals()["address_unknown"] >= 1
    from limiter.db import contacts

    await contacts.learn(story.bench.engine, UUID(ANN), "ann", "ann@example.org", [])
    assert await story.at(N + Y) == ["warning"]
    assert await story.at(N + 2 * Y) == ["cancelled"]


async def test_pausing_the_idle_jobs_gives_the_user_a_full_n_after_the_resume(story: Story) -> None:
    table = story.bench.replica.table
    book(story.platform, ANN, hours(0, 4), hours(4, 5))
    await table.pause(Job.IDLE_WARNING)
    resumed = timedelta(minutes=50)
    await table.resume(Job.IDLE_WARNING, START + resumed)
    assert await story.at(resumed + N - Y - timedelta(seconds=1)) == []
    assert await story.at(resumed + N - Y) == ["warning"]


async def test_uninstalls_and_says_so(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    story = await begin(make_bench, time, UNINSTALL_ON_IDLE="true")
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    await story.at(N - Y)
    await story.bench.events()
    await story.at(N, Job.RPS_CHECK, Job.IDLE_WARNING, Job.IDLE_ENFORCE)
    await story.bench.run(Job.SAGA_POLL, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    (event,) = await story.bench.events()
    assert event["reservation"]["uninstalled"] is True
    assert [command.kind for command in story.platform.commands] == ["uninstall"]


@pytest.mark.parametrize(("starts", "uninstalls"), [(1800, 0), (1801, 1)])
async def test_does_not_uninstall_what_another_user_has_booked_soon(
    make_bench: MakeBench, time: FrozenDateTimeFactory, starts: int, uninstalls: int
) -> None:
    story = await begin(make_bench, time, UNINSTALL_ON_IDLE="true")
    book(story.platform, ANN, hours(0, 2), hours(2, 3))
    book(story.platform, BEN, (START + N + timedelta(seconds=starts), START + timedelta(hours=9)))
    await story.at(N - Y)
    await story.at(N)
    assert [command.kind for command in story.platform.commands] == ["uninstall"] * uninstalls


async def test_one_run_cancels_for_at_most_so_many_users(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    story = await begin(make_bench, time, IDLE_ENFORCE_MAX_PER_RUN="2")
    for _ in range(3):
        book(story.platform, str(uuid4()), hours(0, 2), hours(2, 3))
    await story.at(N - Y)
    await story.bench.events()
    assert await story.at(N) == ["cancelled", "cancelled"]
    assert await story.at(N + timedelta(minutes=1)) == ["cancelled"]
