"""The rules of a warning: what counts as idle, what it names and promises, and how it is closed; N = 60 min, Y = 15."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory

from limiter.db import contacts, tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.stories import USERS, Stage, Story, lines, text
from tests.service.test_control import ask

ALL, UNINSTALL = {"UNBOOKING_MODE": "ALL"}, {"UNINSTALL_ON_IDLE": "true"}
WARNING = (Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
EXEMPT = 'the service restarts with POLICY_OVERRIDES={"m":{"exempt":true}}'

STORIES = [
    Story(
        "IN_ROW: idle time pauses between two slots of a row",
        "0 ann books 0-30 35-95 95-150",
        """50 ann hears warning of 95-150 from 65
        65 ann loses 95-150
        65 ann hears cancelled 95-150""",
        step=5,
        until=70,
    ),
    Story(
        "ALL: an hour every day with N = 1 h: warned on the first day, and the next days are freed at its end",
        "0 ann books 0-60 1440-1500 2880-2940",
        """45 ann hears warning of 1440-1500 2880-2940 from 60
        60 ann loses 1440-1500
        60 ann loses 2880-2940
        60 ann hears cancelled 1440-1500 2880-2940""",
        settings=ALL,
    ),
    Story(
        "ALL: half an hour every day adds up: the third day is freed",
        "0 ann books 0-30 1440-1470 2880-2910",
        """1455 ann hears warning of 2880-2910 from 1470
        1470 ann loses 2880-2910
        1470 ann hears cancelled 2880-2910""",
        runs=(0, 30, 1440, 1450, 1455, 1465, 1470),
        settings=ALL,
    ),
    Story(
        "ALL: a spell lives on between two slots, and its deadline is in the next one",
        "0 ann books 0-50 100-160 200-260",
        """45 ann hears warning of 200-260 from 110
        110 ann loses 200-260
        110 ann hears cancelled 200-260""",
        runs=(0, 45, 60, 75, 105, 110),
        settings=ALL,
    ),
    Story(
        "a slot that begins before the deadline is not named, and stays",
        "0 ann books 0-50 50-110 110-170",
        """45 ann hears warning of 110-170 from 60
        60 ann loses 110-170
        60 ann hears cancelled 110-170""",
    ),
    Story(
        "the slots end before the deadline: a warning could not come true, and is not sent",
        "0 ann books 0-55",
        "",
        settings=UNINSTALL,
    ),
    Story(
        "late, so that the deadline lies behind the last slot: not warned",
        """0 ann books 0-60 60-80
        20 the service is down
        70 the service is up""",
        "",
        settings=UNINSTALL,
    ),
    Story(
        "what is over by the deadline of a warning that had to wait is not named",
        """0 ann books 0-60 60-90 90-120 120-240
        40 the broker forgets the notifier
        95 the broker knows the notifier""",
        """95 ann hears warning of 90-120 120-240 from 110
        110 ann loses 90-120
        110 ann loses 120-240
        110 ann hears cancelled 90-120 120-240""",
        runs=(0, 45, 60, 95, 110),
    ),
    Story(
        "nor is it cancelled, though its user has it later by then",
        """0 ann books 0-60 60-90 120-240
        40 the broker forgets the notifier
        80 ann moves 60-90 to 250-280
        95 the broker knows the notifier""",
        """95 ann hears warning of 120-240 from 110
        110 ann loses 120-240
        110 ann hears cancelled 120-240""",
        runs=(0, 45, 60, 75, 95, 110),
        settings={"UNBOOKING_ROW_GAP_SECONDS": 6000},
    ),
    Story(
        "nothing follows, but the model would be freed: a warning that names no slot",
        "0 ann books 0-180",
        """45 ann hears warning of the model from 60
        60 m is uninstalled
        75 ann hears cancelled uninstalled""",
        settings=UNINSTALL,
    ),
    Story(
        "nothing follows, and at the deadline another user's slot begins soon: warned when it is over",
        """0 ann books 0-180
        0 ben books 80-100""",
        """100 ann hears warning of the model from 115
        115 m is uninstalled
        120 ann hears cancelled uninstalled""",
        runs=(0, 45, 50, 60, 85, 99, 100, 115, 120),
        settings=UNINSTALL,
    ),
    Story(
        "nothing follows in the row, and a slot of the user's own begins soon after the deadline: not warned",
        "0 ann books 0-70 80-140",
        "",
        step=5,
        until=140,
        settings=UNINSTALL,
    ),
    Story(
        "IN_ROW: the running slot is made to end before the deadline: withdrawn; the next row has its own warning",
        """0 ann books 0-120 120-240 240-300
        50 ann moves 0-120 to 0-55""",
        """45 ann hears warning of 120-240 240-300 from 60
        60 ann hears withdrawn: nothing_left
        165 ann hears warning of 240-300 from 180
        180 ann loses 240-300
        180 ann hears cancelled 240-300""",
        until=180,
    ),
    Story(
        "kept while warned: withdrawn; idle time counts anew from the end of the keep",
        """0 ann books 0-180 180-240
        50 the operator keeps m until 100""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: kept
        145 ann hears warning of 180-240 from 160""",
        runs=(0, 45, 60, 75, 99, 100, 115, 144, 145),
    ),
    Story(
        "kept while warned, and over before anybody looked: withdrawn all the same",
        """0 ann books 0-180 180-240
        50 the operator keeps m until 52""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: kept
        105 ann hears warning of 180-240 from 120""",
        until=105,
    ),
    Story(
        "a keep of one user protects no other",
        """0 ann books 0-180 180-240
        0 ben books 0-180 180-240
        10 the operator keeps m for ben until 200""",
        """45 ann hears warning of 180-240 from 60
        60 ann loses 180-240
        60 ann hears cancelled 180-240""",
    ),
    Story(
        "a keep that is ended by hand: a full N from then on",
        """0 ann books 0-180 180-240
        10 the operator keeps m until 1000
        30 the operator ends the keep of m""",
        "75 ann hears warning of 180-240 from 90",
        until=75,
    ),
    Story(
        "exempted while warned: withdrawn",
        f"""0 ann books 0-180 180-240
        50 {EXEMPT}""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: exempt""",
    ),
    Story(
        "the whole booking is given back while warned: withdrawn",
        """0 ann books 0-180 180-240
        50 ann gives back 0-180
        50 ann gives back 180-240""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: booking_gone""",
    ),
    Story(
        "the model disappears while its user is warned: withdrawn",
        """0 ann books 0-180 180-240
        50 m disappears""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: model_gone""",
    ),
    Story(
        "DRY_RUN is switched on while a user is warned: withdrawn, and told",
        """0 ann books 0-180 180-240
        50 the service restarts with DRY_RUN=true""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: mode_changed""",
    ),
    Story(
        "an operator withdraws the warning: told, and a full N from then on",
        """0 ann books 0-180 180-240
        50 the operator withdraws ann's warning""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: by_operator
        95 ann hears warning of 180-240 from 110""",
        runs=(0, 45, 60, 75, 94, 95),
    ),
    Story(
        "a replica that restarts between warning and deadline changes nothing",
        """0 ann books 0-180 180-240
        20 the service restarts
        50 the service restarts""",
        """45 ann hears warning of 180-240 from 60
        60 ann loses 180-240
        60 ann hears cancelled 180-240""",
    ),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
async def test_story(make_bench: MakeBench, time: FrozenDateTimeFactory, story: Story) -> None:
    stage = Stage(await make_bench(**story.settings), time, make_bench)
    expected = lines(story.acts) if story.acts else []
    assert text(await stage.play(story)) == text(expected)
    assert stage.platform.violations == []


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


async def fleet(make_bench: MakeBench, users: int, idle: int, **settings: object) -> Bench:
    """So many users with two slots each, of which the first `idle` book a model that nobody calls."""
    bench = await make_bench(**settings)
    bench.platform.add_model("m")
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    for number in range(users):
        book(bench, number, "m" if number < idle else "used")
    await bench.run(Job.RPS_CHECK)
    return bench


def book(bench: Bench, number: int, model: str) -> None:
    slots = [(START, START + minutes(120)), (START + minutes(120), START + minutes(180))]
    bench.platform.add_reservation(str(UUID(int=number + 1)), f"user{number}", model, slots=slots)


async def run_at(bench: Bench, time: FrozenDateTimeFactory, minute: float, *jobs: Job) -> list[str]:
    """Run the jobs in that minute; the stages of what the users heard."""
    time.move_to(START + minutes(minute))
    await bench.run(*jobs)
    return await bench.stages()


async def test_a_warning_says_the_ids_and_times_of_what_it_puts_at_risk(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 1, 1)
    (reservation,) = bench.platform.reservations
    following = reservation.slots[1]
    time.move_to(START + minutes(45))
    await bench.run(*WARNING)
    (event,) = await bench.events()
    warning = event["reservation"]
    slot = {"reservation_id": reservation.id, "slot_id": following.id}
    times = {"start": "2026-03-02T12:00:00+00:00", "end": "2026-03-02T13:00:00+00:00"}
    assert warning["slots_at_risk"] == [slot | times]
    assert (warning["cancel_not_before"], warning["closing_reason"]) == ("2026-03-02T11:00:00+00:00", None)


@pytest.mark.parametrize("seconds", [0, 0.25])
async def test_a_warning_that_goes_out_late_says_the_deadline_that_is_held(
    make_bench: MakeBench, time: FrozenDateTimeFactory, seconds: float
) -> None:
    bench = await fleet(make_bench, 1, 1)
    assert await run_at(bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING) == []
    time.move_to(START + minutes(80) + timedelta(seconds=seconds))
    await bench.run(Job.EVENT_DISPATCH)
    (event,) = await bench.events()
    promised = datetime.fromisoformat(event["reservation"]["cancel_not_before"])
    assert timedelta() <= promised - (START + minutes(95) + timedelta(seconds=seconds)) < timedelta(seconds=1)
    time.move_to(promised - timedelta(seconds=0.1))
    await bench.run(Job.IDLE_ENFORCE)
    assert bench.platform.deletions == []
    time.move_to(promised)
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    (again,) = await bench.events()
    assert len(bench.platform.deletions) == 1
    assert again["reservation"]["cancel_not_before"] == event["reservation"]["cancel_not_before"]


async def test_a_later_attempt_of_an_unroutable_warning_says_a_later_deadline(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 1, 1)
    exchange, key = bench.settings.notifier_exchange, bench.settings.notifier_no_use_routing_key
    await bench.inbox.unbind(exchange, key)
    assert await run_at(bench, time, 45, *WARNING) == []
    await bench.inbox.bind(exchange, key)
    time.move_to(START + minutes(70))
    async with asyncio.timeout(5):
        while not (events := await bench.events()):  # the pause after a failure is in real time
            await bench.run(Job.EVENT_DISPATCH)
    assert [event["reservation"]["cancel_not_before"] for event in events] == ["2026-03-02T11:25:00+00:00"]
    (spell,) = await bench.rows(tables.idle_spell)
    assert spell.delivered_at == START + minutes(70)


async def test_a_warning_that_no_queue_took_goes_out_by_the_key_that_was_corrected(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 1, 1, NOTIFIER_NO_USE_ROUTING_KEY="misspelled")
    exchange = bench.settings.notifier_exchange
    await bench.inbox.unbind(exchange, "misspelled")
    assert await run_at(bench, time, 45, *WARNING) == []
    corrected = await make_bench(NOTIFIER_EXCHANGE=exchange)
    assert await corrected.has_work(Job.EVENT_DISPATCH)
    await corrected.run(Job.EVENT_DISPATCH)
    assert await corrected.stages() == ["warning"]


async def test_a_warning_that_had_to_wait_goes_to_the_address_of_a_template_that_was_corrected(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 1, 1, USER_EMAIL_TEMPLATE="{user_name}@wrong.example")
    exchange = bench.settings.notifier_exchange
    await run_at(bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING)
    corrected = await make_bench(NOTIFIER_EXCHANGE=exchange, USER_EMAIL_TEMPLATE="{user_name}@right.example")
    await corrected.run(Job.EVENT_DISPATCH)
    bench.platform.call("m")
    await corrected.run(Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    heard = [(event["reservation"]["stage"], event["user"]["email"]) for event in await corrected.events()]
    assert heard == [("warning", "user0@right.example"), ("withdrawn", "user0@right.example")]


async def test_a_warning_that_had_to_wait_goes_to_the_address_announced_meanwhile_and_so_does_its_closing(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    stage = Stage(await make_bench(), time)
    for words in ("ann books 0-180 180-240", "the platform announces ann's address"):
        await stage.happen(words)
    assert await run_at(stage.bench, time, 0, Job.RPS_CHECK) == []
    await run_at(stage.bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING)
    for email in ("new@example.org", "too-late@example.org"):
        await contacts.learn(stage.bench.engine, USERS["ann"], "ann", email, [])
        time.tick(60 * 15)
        await stage.bench.run(Job.RPS_CHECK, Job.EVENT_DISPATCH, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    heard = [(event["reservation"]["stage"], event["user"]["email"]) for event in await stage.bench.events()]
    assert heard == [("warning", "new@example.org"), ("cancelled", "new@example.org")]


async def test_a_warning_that_was_tried_before_it_was_withdrawn_goes_where_its_withdrawal_goes(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(EVENT_RETRY_FIRST_SECONDS="0.1")
    stage, exchange = Stage(bench, time), bench.settings.notifier_exchange
    for words in ("ann books 0-180 180-240", "the platform announces ann's address"):
        await stage.happen(words)
    await bench.inbox.unbind(exchange, bench.settings.notifier_no_use_routing_key)
    await run_at(bench, time, 0, Job.RPS_CHECK)
    await run_at(bench, time, 45, *WARNING)
    bench.platform.call("m")
    assert await run_at(bench, time, 46, Job.RPS_CHECK, Job.IDLE_WARNING) == []
    await contacts.learn(bench.engine, USERS["ann"], "ann", "new@example.org", [])
    await bench.inbox.bind(exchange, bench.settings.notifier_no_use_routing_key)
    heard: list[tuple[str, str]] = []
    async with asyncio.timeout(10):
        while len(heard) < 2:  # the pause after a failure is in real time
            await bench.run(Job.EVENT_DISPATCH)
            heard += [(event["reservation"]["stage"], event["user"]["email"]) for event in await bench.events()]
    assert heard == [("warning", "ann@example.org"), ("withdrawn", "ann@example.org")]


@pytest.mark.parametrize("why", ["used", "kept"])
async def test_a_warning_that_was_never_handed_to_the_broker_is_retracted_in_silence(
    make_bench: MakeBench, time: FrozenDateTimeFactory, why: str
) -> None:
    bench = await fleet(make_bench, 1, 1)
    await run_at(bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING)
    if why == "used":
        bench.platform.call("m")
    else:
        until = (START + minutes(600)).isoformat()
        assert (await ask(bench, {"command": "keep", "model": "m", "until": until}))["outcome"] == "completed"
    assert await run_at(bench, time, 46, *WARNING) == []
    assert [spell.state for spell in await bench.rows(tables.idle_spell)] == ["withdrawn"]
    assert await bench.rows(tables.outbox) == []


async def sent_at(bench: Bench, time: FrozenDateTimeFactory, minute: float) -> list[str]:
    """What the users heard once all that waits was tried in that minute."""
    time.move_to(START + minutes(minute))
    async with asyncio.timeout(5):
        while not await bench.has_work(Job.EVENT_DISPATCH):
            pass  # what is held back waits for a pause in real time
    await bench.run(Job.EVENT_DISPATCH)
    return await bench.stages()


async def test_a_warning_that_had_to_wait_does_not_go_out_in_the_quiet_hours(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 1, 1, IDLE_QUIET_HOURS="10:50-11:30")
    assert await run_at(bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING) == []
    for minute in (50, 89.9):
        assert await sent_at(bench, time, minute) == []
    (waiting,) = await bench.rows(tables.outbox)
    assert (waiting.attempts, waiting.error) == (0, "held back: quiet_hours")
    assert not any(reason.startswith("event") for reason in bench.criticals())
    numbers = await bench.replica.health.status_reader.numbers()
    assert (numbers.pending, numbers.oldest_event) == (0, None)  # the quiet hours wake nobody
    time.move_to(START + minutes(90))
    # As long as RabbitMQ is away nobody looks at it again: it still says that the quiet hours hold it.
    assert (await bench.replica.health.status_reader.numbers()).pending == 1
    async with asyncio.timeout(5):
        while not (events := await bench.events()):
            await bench.run(Job.EVENT_DISPATCH)
    (event,) = events
    assert event["reservation"]["cancel_not_before"] == "2026-03-02T11:45:00+00:00"


async def test_what_waits_behind_a_warning_wakes_nobody_in_the_quiet_hours(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 1, 1, IDLE_QUIET_HOURS="10:50-10:58")
    exchange, key = bench.settings.notifier_exchange, bench.settings.notifier_no_use_routing_key
    await bench.inbox.unbind(exchange, key)
    assert await run_at(bench, time, 45, *WARNING) == []
    await bench.inbox.bind(exchange, key)
    assert await sent_at(bench, time, 50) == []
    bench.platform.call("m")
    await run_at(bench, time, 51, Job.RPS_CHECK, Job.IDLE_WARNING)  # it was tried: its user may have heard of it
    assert [row.stage for row in await bench.rows(tables.outbox)] == ["warning", "withdrawn"]
    reader = bench.replica.health.status_reader
    numbers, status = await reader.numbers(), await reader.read()
    assert (numbers.pending, numbers.oldest_event) == (0, None)
    assert status["events_total"] == len(status["events"]) == 2  # though it wakes nobody, it is told
    time.move_to(START + minutes(58))
    assert (await reader.numbers()).pending == 2


@pytest.mark.parametrize("why", ["used", "kept", "was kept", "exempt"])
async def test_a_warning_that_is_overtaken_while_it_waits_is_not_sent(
    make_bench: MakeBench, time: FrozenDateTimeFactory, why: str
) -> None:
    bench = await fleet(make_bench, 1, 1)
    await run_at(bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING)
    if why == "used":
        bench.platform.call("m")
        await run_at(bench, time, 46, Job.RPS_CHECK)
    elif why.endswith("kept"):
        until = (START + minutes(600 if why == "kept" else 45.5)).isoformat()
        assert (await ask(bench, {"command": "keep", "model": "m", "until": until}))["outcome"] == "completed"
    else:
        bench = await make_bench(POLICY_OVERRIDES='{"m":{"exempt":true}}')
    assert await sent_at(bench, time, 46) == []
    assert await run_at(bench, time, 47, *WARNING) == []
    assert [spell.state for spell in await bench.rows(tables.idle_spell)] == ["withdrawn"]
    assert await bench.rows(tables.outbox) == []


@pytest.mark.parametrize(("minute", "heard"), [(164.9, ["warning"]), (165, []), (200, [])])
async def test_a_warning_that_could_not_come_true_any_more_is_not_sent(
    make_bench: MakeBench, time: FrozenDateTimeFactory, minute: float, heard: list[str]
) -> None:
    """Its only slot ends after 180 minutes, and nobody is cancelled before 15 have passed."""
    bench = await fleet(make_bench, 1, 1)
    await run_at(bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING)
    assert await sent_at(bench, time, minute) == heard


async def test_what_waits_while_rabbitmq_is_away_was_not_tried_and_an_overtaken_warning_is_taken_back(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 2, 1)
    await run_at(bench, time, 45, Job.RPS_CHECK, Job.IDLE_WARNING)
    await bench.replica.consumer.broker.stop()
    await run_at(bench, time, 46, Job.EVENT_DISPATCH)
    assert [row.attempts for row in await bench.rows(tables.outbox)] == [0]
    await run_at(bench, time, 46.1, Job.EVENT_DISPATCH)
    assert bench.criticals()["event_unconfirmed"] == 1  # not at each run of an outage
    bench.platform.call("m")
    await run_at(bench, time, 47, Job.RPS_CHECK, Job.IDLE_WARNING)
    await bench.replica.consumer.broker.connect()
    assert await run_at(bench, time, 48, Job.EVENT_DISPATCH) == []
    assert await bench.rows(tables.outbox) == []


async def test_a_mass_at_the_border_is_no_surge(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await fleet(make_bench, 30, 20)
    assert await run_at(bench, time, 45, *WARNING) == ["warning"] * 20
    assert bench.criticals().get("idle_surge", 0) == 0


async def unaddressed(make_bench: MakeBench, users: int, idle: int, known: int) -> Bench:
    """A fleet of whose users only one has an address."""
    bench = await fleet(make_bench, users, idle, USER_EMAIL_TEMPLATE="", IDLE_SURGE_MIN=2)
    await contacts.learn(bench.engine, UUID(int=known + 1), "him", "him@example.org", [])
    return bench


async def test_users_without_an_address_that_turn_idle_one_after_another_pile_up_to_no_surge(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await unaddressed(make_bench, 0, 0, known=5)
    for number in range(6):
        time.move_to(START + minutes(2 * number))
        begin = START + minutes(2 * number)
        slots = [(begin, START + minutes(120)), (START + minutes(120), START + minutes(180))]
        bench.platform.add_reservation(str(UUID(int=number + 1)), f"user{number}", "m", slots=slots)
    heard = [await run_at(bench, time, 45 + 2 * number, *WARNING) for number in range(6)]
    assert heard == [[]] * 5 + [["warning"]]
    assert "idle_surge" not in bench.criticals()


async def test_in_a_surge_who_has_no_address_goes_on_waiting_for_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await unaddressed(make_bench, 5, 2, known=4)
    assert await run_at(bench, time, 45, *WARNING) == []
    bench.platform.set_rate("used", 0)
    await run_at(bench, time, 46, Job.RPS_CHECK)
    await run_at(bench, time, 92, *WARNING)
    assert bench.criticals()["idle_surge"] == 1
    reasons = [row.reason for row in await bench.rows(tables.decision) if row.stands and row.user_id]
    assert sorted(reasons) == ["address_unknown"] * 2 + ["idle_surge"] * 3


async def test_a_surge_warns_nobody_and_alarms_once_until_a_person_allows_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 30, 21)
    for minute in (45, 46, 47):
        assert await run_at(bench, time, minute, *WARNING) == []
    assert bench.criticals()["idle_surge"] == 1
    assert await bench.rows(tables.idle_spell) == []
    assert (await ask(bench, {"command": "allow_surge", "by": "zoe"}))["outcome"] == "completed"
    assert await run_at(bench, time, 48, *WARNING) == ["warning"] * 21
    assert bench.criticals()["idle_surge"] == 1


async def test_a_surge_ends_when_the_share_falls_and_the_next_one_alarms_anew(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await fleet(make_bench, 30, 21)
    assert await run_at(bench, time, 45, *WARNING) == []
    bench.platform.call("m")
    assert await run_at(bench, time, 46, *WARNING) == []
    assert await bench.rows(tables.surge) == []
    assert await run_at(bench, time, 46 + 45, *WARNING) == []
    assert bench.criticals()["idle_surge"] == 2
    for number in range(30, 42):  # 21 of 42 are not more than half
        book(bench, number, "used")
    assert await run_at(bench, time, 46 + 46, *WARNING) == ["warning"] * 21
    assert await bench.rows(tables.surge) == []
