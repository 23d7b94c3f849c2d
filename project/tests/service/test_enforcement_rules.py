"""The rules of a cancelling, step by step: what goes, what stays, what its user is told; N = 60 min, Y = 15."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.booking import Slot
from dev.fake_platform.call import Call
from dev.fake_platform.faults import Fault
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.errors import NotSent
from limiter.db import tables
from limiter.domain.job import Job
from limiter.runner.run import Run
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.stories import Stage, Story, lines, text
from tests.service.test_control import ask

UNINSTALL = {"UNINSTALL_ON_IDLE": "true"}
PATIENT = UNINSTALL | {"UNINSTALL_TELL_SECONDS": 3600}
EXEMPT = 'the service restarts with POLICY_OVERRIDES={"m":{"exempt":true}}'
WARNED = "45 ann hears warning of 120-180 180-240 from 60"

STORIES = [
    Story(
        "the mode widens after the warning: only what it named goes",
        """0 ann books 0-120 120-180 300-360
        50 the service restarts with UNBOOKING_MODE=ALL""",
        """45 ann hears warning of 120-180 from 60
        60 ann loses 120-180
        60 ann hears cancelled 120-180""",
    ),
    Story(
        "the mode narrows after the warning: what it named goes",
        """0 ann books 0-120 120-180 300-360
        50 the service restarts with UNBOOKING_MODE=IN_ROW""",
        """45 ann hears warning of 120-180 300-360 from 60
        60 ann loses 120-180
        60 ann loses 300-360
        60 ann hears cancelled 120-180 300-360""",
        settings={"UNBOOKING_MODE": "ALL"},
    ),
    Story(
        "kept in the middle of the cancelling: the rest stays, and what went is told",
        """0 ann books 0-120 120-180 180-240
        50 after the first cancellation: the operator keeps m until 200""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann hears cancelled 120-180""",
    ),
    Story(
        "exempted in the middle of the cancelling: the rest stays, and what went is told",
        f"""0 ann books 0-120 120-180 180-240
        50 after the first cancellation: all cancellations are answered with 403
        70 cancellations are allowed
        70 {EXEMPT}""",
        f"""{WARNED}
        60 ann loses 120-180
        75 ann hears cancelled 120-180""",
    ),
    Story(
        "the jobs are paused in the middle of the cancelling: no further step; resumed, it goes on",
        """0 ann books 0-120 120-180 180-240
        50 after the first cancellation: the operator pauses the idle jobs
        80 the operator resumes the idle jobs""",
        f"""{WARNED}
        60 ann loses 120-180
        90 ann loses 180-240
        90 ann hears cancelled 120-180 180-240""",
    ),
    Story(
        "an operator closes the spell in the middle of the cancelling: the rest stays, and what went is told",
        """0 ann books 0-120 120-180 180-240
        50 after the first cancellation: before a reservation is read afresh: the operator withdraws ann's warning""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann hears cancelled 120-180""",
    ),
    Story(
        "a replica dies in the middle of the cancelling: the next one ends it",
        """0 ann books 0-120 120-180 180-240
        50 after the first cancellation: all cancellations are answered with 500
        70 the service restarts
        70 cancellations are allowed""",
        f"""{WARNED}
        60 ann loses 120-180
        75 ann loses 180-240
        75 ann hears cancelled 120-180 180-240""",
    ),
    Story(
        "a slot added to a reservation after the warning keeps it from going whole, and stays",
        """0 ann books 0-120
        0 ann books 120-180 180-240
        50 ann adds 240-300 to 120-180""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        60 ann hears cancelled 120-180 180-240""",
    ),
    Story(
        "a slot added between the sweep and the DELETE keeps the reservation from going whole too",
        """0 ann books 0-120
        0 ann books 120-180 180-240
        50 before a reservation is read afresh: ann adds 240-300 to 120-180""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        60 ann hears cancelled 120-180 180-240""",
    ),
    Story(
        "a slot given back between the sweep and its DELETE is told as already gone",
        """0 ann books 0-120
        0 ann books 120-180 180-240
        50 before a reservation is read afresh: ann gives back 120-180""",
        f"""{WARNED}
        60 ann loses 180-240 as a whole
        60 ann hears cancelled 180-240 120-180 (already gone)""",
    ),
    Story(
        "a reservation that became another user's between the sweep and its DELETE stays",
        """0 ann books 0-120
        0 ann books 120-180
        0 ann books 180-240
        50 before a reservation is read afresh: ben takes over 120-180 of ann""",
        f"""{WARNED}
        60 ann loses 180-240 as a whole
        60 ann hears cancelled 180-240 failed 120-180""",
    ),
    Story(
        "moved after the warning: it goes, and is told with its new times",
        """0 ann books 0-120 120-180 180-240
        50 ann moves 120-180 to 300-360""",
        f"""{WARNED}
        60 ann loses 180-240
        60 ann loses 300-360
        60 ann hears cancelled 180-240 300-360""",
    ),
    Story(
        "extended between the sweep and the DELETE: told as it was when it went",
        """0 ann books 0-120
        0 ann books 120-180 180-240
        50 before a reservation is read afresh: ann moves 180-240 to 180-300""",
        f"""{WARNED}
        60 ann loses 120-180 180-300 as a whole
        60 ann hears cancelled 120-180 180-300""",
    ),
    Story(
        "postponed while refused: it is not over, and goes",
        """0 ann books 0-120 120-180 180-240
        50 all cancellations are answered with 403
        70 ann moves 120-180 to 300-360
        182 cancellations are allowed""",
        f"""{WARNED}
        195 ann loses 300-360
        210 ann loses 180-240
        210 ann hears cancelled 180-240 300-360""",
        until=210,
    ),
    Story(
        "postponed while the service was down: it is not over, and goes",
        """0 ann books 0-60 60-120 120-180 180-240
        46 the service is down
        50 ann moves 60-120 to 240-300
        125 the service is up""",
        """45 ann hears warning of 60-120 120-180 180-240 from 60
        135 ann loses 120-180
        135 ann loses 180-240
        135 ann loses 240-300
        135 ann hears cancelled 120-180 180-240 240-300""",
        until=135,
        settings={"UNBOOKING_MODE": "ALL"},
    ),
    Story(
        "brought forward, and over at the deadline: neither cancelled nor told as gone",
        """0 ann books 0-120 120-180 180-240
        50 ann moves 120-180 to 51-55""",
        f"""{WARNED}
        60 ann loses 180-240
        60 ann hears cancelled 180-240""",
    ),
    Story(
        "down until some of what was named is over, and some has begun: the begun goes, and what follows",
        """0 ann books 0-60 60-120 120-180 180-240
        46 the service is down
        130 the service is up""",
        """45 ann hears warning of 60-120 120-180 180-240 from 60
        135 ann loses 120-180
        135 ann loses 180-240
        135 ann hears cancelled 120-180 180-240""",
        until=135,
    ),
    Story(
        "refused until one slot is over: that one is told as failed, and the others go",
        """0 ann books 0-60 60-120 120-180 180-240
        50 all cancellations are answered with 403
        122 cancellations are allowed""",
        """45 ann hears warning of 60-120 120-180 180-240 from 60
        135 ann loses 120-180
        135 ann loses 180-240
        135 ann hears cancelled 120-180 180-240 failed 60-120""",
        until=135,
    ),
    Story(
        "everything was cancelled by somebody else in the same moment: told as already gone",
        """0 ann books 0-120 120-180
        50 a cancellation is answered with 404""",
        """45 ann hears warning of 120-180 from 60
        60 ann hears cancelled 120-180 (already gone)""",
    ),
    Story(
        "a slot that was cancelled by somebody else is told as already gone; it bars no uninstall",
        """0 ann books 0-120 120-180 180-240
        50 a cancellation is answered with 404""",
        f"""{WARNED}
        60 ann loses 180-240
        60 m is uninstalled
        75 ann hears cancelled 180-240 120-180 (already gone) uninstalled""",
        settings=UNINSTALL,
    ),
    Story(
        "used after the last DELETE: not uninstalled",
        """0 ann books 0-120 120-180 180-240
        50 after the second cancellation: m is called""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        60 ann hears cancelled 120-180 180-240""",
        settings=UNINSTALL,
    ),
    Story(
        "kept after the last DELETE: not uninstalled",
        """0 ann books 0-120 120-180 180-240
        50 after the second cancellation: the operator keeps m until 200""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        60 ann hears cancelled 120-180 180-240""",
        settings=UNINSTALL,
    ),
    Story(
        "booked by another user in the middle of the cancelling: not uninstalled",
        """0 ann books 0-120 120-180 180-240
        50 after the second cancellation: ben books 85-100""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        60 ann hears cancelled 120-180 180-240""",
        settings=UNINSTALL,
    ),
    Story(
        "not uninstalled while the user keeps a slot, booked after the warning, that starts within the guard",
        """0 ann books 0-70 100-160
        50 ann books 75-85""",
        """45 ann hears warning of 100-160 from 60
        60 ann loses 100-160
        60 ann hears cancelled 100-160""",
        settings=UNINSTALL | {"UNBOOKING_ROW_GAP_SECONDS": 1800},
    ),
    Story(
        "uninstalled although the user keeps a slot that starts later than the guard",
        """0 ann books 0-70 100-160
        50 ann books 170-180""",
        """45 ann hears warning of 100-160 from 60
        60 ann loses 100-160
        60 m is uninstalled
        75 ann hears cancelled 100-160 uninstalled""",
        settings=UNINSTALL | {"UNBOOKING_ROW_GAP_SECONDS": 1800},
        until=75,
    ),
    Story(
        "used again while nothing could be cancelled yet: withdrawn",
        """0 ann books 0-120 120-180 180-240
        50 all cancellations are answered with 403
        70 m is called""",
        f"""{WARNED}
        75 ann hears withdrawn: used""",
    ),
    Story(
        "nothing to cancel, and an uninstall that never ends: no withdrawal, since the model may still go",
        """0 ann books 0-180
        50 the next saga never ends""",
        """45 ann hears warning of the model from 60
        60 m is uninstalled
        75 ann hears cancelled""",
        settings=UNINSTALL,
    ),
    Story(
        "the saga of the uninstall never ends: told as not done",
        """0 ann books 0-120 120-180 180-240
        50 the next saga never ends""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        60 m is uninstalled
        62 ann hears cancelled 120-180 180-240""",
        runs=(0, 45, 60, 61, 62, 63, 80),
        settings=UNINSTALL,
    ),
    Story(
        "a refused uninstall is repeated after 1, then 2 minutes",
        """0 ann books 0-120 120-180 180-240
        50 the next uninstall is refused
        50 the next uninstall is refused""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        63 m is uninstalled
        64 ann hears cancelled 120-180 180-240 uninstalled""",
        runs=(0, 45, 60, 61, 62, 63, 64),
        settings=PATIENT,
    ),
    Story(
        "an uninstall whose saga fails is repeated too",
        """0 ann books 0-120 120-180 180-240
        50 the next saga fails""",
        f"""{WARNED}
        60 ann loses 120-180
        60 ann loses 180-240
        60 m is uninstalled
        62 m is uninstalled
        63 ann hears cancelled 120-180 180-240 uninstalled""",
        runs=(0, 45, 60, 61, 62, 63),
        settings=PATIENT,
    ),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
async def test_story(make_bench: MakeBench, time: FrozenDateTimeFactory, story: Story) -> None:
    stage = Stage(await make_bench(**story.settings), time, make_bench)
    assert text(await stage.play(story)) == text(lines(story.acts))
    assert stage.platform.violations == []


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


async def warned(
    make_bench: MakeBench,
    time: FrozenDateTimeFactory,
    settings: Mapping[str, object] = MappingProxyType({}),
    *,
    users: int = 1,
    slots: int = 2,
) -> Bench:
    """At 10:45 so many users, each of a model of his own, are warned about so many hours after a slot until 12:00."""
    bench = await make_bench(**settings)
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    for number in range(users):
        bench.platform.add_model(f"m{number}")
        book(bench, number, 0, *range(120, 121 + 60 * slots, 60), model=f"m{number}")
    await bench.run(Job.RPS_CHECK)
    time.move_to(START + minutes(45))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    assert await bench.stages() == ["warning"] * users
    return bench


def book(bench: Bench, number: int, *borders: int, model: str = "m") -> None:
    slots = [(START + minutes(start), START + minutes(end)) for start, end in pairwise(borders)]
    bench.platform.add_reservation(str(UUID(int=number + 1)), f"user{number}", model, slots=slots)


async def enforce(bench: Bench, time: FrozenDateTimeFactory, minute: float) -> list[dict[str, Any]]:
    """Follow commands, cancel and tell in that minute; what the users heard."""
    time.move_to(START + minutes(minute))
    await bench.run(Job.SAGA_POLL, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    return [event["reservation"] for event in await bench.events()]


def asked(bench: Bench, method: str = "DELETE") -> int:
    return sum(exchange.method == method for exchange in bench.platform.history)


async def test_the_final_event_says_what_was_named_as_the_warning_did_and_what_went_as_it_was_booked(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench()
    stage = Stage(bench, time)
    for words in ("ann books 0-120 120-180", "m is called"):
        await stage.happen(words)
    await bench.run(Job.RPS_CHECK)
    time.move_to(START + minutes(45))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    (warning,) = [event["reservation"] for event in await bench.events()]
    await stage.happen("ann moves 120-180 to 150-240")
    (final,) = await enforce(bench, time, 60)
    (named,) = warning["slots_at_risk"]
    assert final["slots_at_risk"] == [named]
    times = {"start": "2026-03-02T12:30:00+00:00", "end": "2026-03-02T14:00:00+00:00"}
    assert final["cancelled_slots"] == [named | times]


UNANSWERED = "no answer"
REFUSALS = [401, 403, 408, 425, 429, 500, 503, UNANSWERED]


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refusal_tells_and_uninstalls_nothing_alarms_once_a_run_and_is_repeated_until_it_is_done(
    make_bench: MakeBench, time: FrozenDateTimeFactory, status: int | str
) -> None:
    bench = await warned(make_bench, time, UNINSTALL, users=3)
    fault = Fault.reset() if status == UNANSWERED else Fault.status(int(status))
    bench.platform.fault("booking", fault, method="DELETE")
    for runs, minute in enumerate((60, 61), 1):
        assert await enforce(bench, time, minute) == []
        reasons = ("booking_rejected", "booking_unavailable")
        assert sum(bench.criticals().get(reason, 0) for reason in reasons) == runs
        assert asked(bench) == runs * (1 if status in (401, 403) else 2)  # one step, and what the client repeats
    assert {step.state for step in await bench.rows(tables.cancellation)} == {"planned"}
    assert (bench.platform.deletions, bench.platform.commands) == ([], [])
    bench.platform.clear_faults()
    await asyncio.sleep(0.06)  # the circuit's rest, in real time
    events = [*await enforce(bench, time, 65), *await enforce(bench, time, 66)]
    assert [event["stage"] for event in events] == ["cancelled"] * 3
    assert all(len(event["cancelled_slots"]) == 2 and not event["failed_slots"] for event in events)
    assert all(event["uninstalled"] for event in events)
    assert [command.kind for command in bench.platform.commands] == ["uninstall"] * 3


async def test_a_refused_step_is_repeated_after_one_then_two_then_four_minutes(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await warned(make_bench, time, slots=1)
    bench.platform.fault("booking", Fault.status(403), method="DELETE")
    tried = []
    for minute in range(60, 68):
        before = asked(bench)
        await enforce(bench, time, minute)
        tried.extend([minute] * (asked(bench) - before))
    assert tried == [60, 61, 63, 67]


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_what_the_booking_service_will_not_cancel_is_told_as_failed_and_bars_the_uninstall(
    make_bench: MakeBench, time: FrozenDateTimeFactory, status: int
) -> None:
    bench = await warned(make_bench, time, UNINSTALL)
    named = [slot.id for slot in bench.platform.reservations[0].slots[1:]]
    bench.platform.fault("booking", Fault.status(status), method="DELETE", times=1)
    (event,) = await enforce(bench, time, 60)
    assert event["stage"] == "cancelled"
    assert [slot["slot_id"] for slot in event["failed_slots"]] == named[:1]
    assert [slot["slot_id"] for slot in event["cancelled_slots"]] == named[1:]
    assert event["uninstalled"] is False
    assert bench.platform.commands == []
    assert bench.criticals()["booking_rejected"] == 1
    assert await enforce(bench, time, 61) == []
    assert asked(bench) == 2


@pytest.mark.parametrize(("seconds", "events_at_first"), [(119, 0), (120, 1)])
async def test_an_uninstall_is_waited_for_so_long_and_then_told_as_not_done(
    make_bench: MakeBench, time: FrozenDateTimeFactory, seconds: int, events_at_first: int
) -> None:
    bench = await warned(make_bench, time, UNINSTALL)
    bench.platform.next_saga("stuck")
    assert await enforce(bench, time, 60) == []
    events = await enforce(bench, time, 60 + seconds / 60)
    assert [(event["stage"], event["uninstalled"]) for event in events] == [("cancelled", False)] * events_at_first
    assert len(await enforce(bench, time, 70)) == 1 - events_at_first  # exactly once


async def test_an_uninstall_that_was_not_sent_is_repeated(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: object) -> None:
        raise NotSent("nobody listens", "dispatcher")

    bench = await warned(make_bench, time, PATIENT)
    with monkeypatch.context() as patched:
        patched.setattr(Dispatcher, "send", unreachable)
        assert await enforce(bench, time, 60) == []
    assert bench.platform.commands == []
    assert await enforce(bench, time, 61) == []
    assert [command.kind for command in bench.platform.commands] == ["uninstall"]
    assert [event["uninstalled"] for event in await enforce(bench, time, 62)] == [True]


async def test_a_spell_with_5000_named_slots_is_warned_and_cancelled_whole(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(UNBOOKING_MODE="ALL")
    bench.platform.add_model("m")
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    book(bench, 0, 0, 120)
    for number in range(10):
        first = 120 + number * 500
        book(bench, 0, *range(first, first + 501))
    await bench.run(Job.RPS_CHECK)
    time.move_to(START + minutes(45))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    (warning,) = await bench.events()
    assert len(warning["reservation"]["slots_at_risk"]) == 5000
    (event,) = await enforce(bench, time, 60)
    assert event["cancelled_slots"] == warning["reservation"]["slots_at_risk"]
    assert [(len(gone.slots), gone.slot_id) for gone in bench.platform.deletions] == [(500, None)] * 10


@pytest.mark.parametrize("models", [2, 1000])
async def test_a_fresh_look_before_each_delete_costs_the_same_whatever_the_fleets_size(
    make_bench: MakeBench, time: FrozenDateTimeFactory, models: int
) -> None:
    """Both metrics pages, the one reservation by its id, and the DELETE itself."""
    bench = await make_bench(UNBOOKING_MODE="ALL")
    for number in range(models - 1):
        bench.platform.add_model("m" if number == 0 else f"other{number}")
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    book(bench, 0, 0, 120)
    book(bench, 0, *range(120, 141))
    await bench.run(Job.RPS_CHECK)
    time.move_to(START + minutes(45))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    assert await bench.stages() == ["warning"]
    later = int((START + minutes(150)).timestamp())
    bench.platform.reservations[1].slots.append(Slot(later, later + 600))  # so that it does not go whole
    await enforce(bench, time, 60)
    asked = [(exchange.service, exchange.method) for exchange in bench.platform.history]
    deletes = [number for number, (_, method) in enumerate(asked) if method == "DELETE"]
    assert len(deletes) == 20
    one_look = Counter({("entrypoint", "GET"): 2, ("booking", "GET"): 1, ("booking", "DELETE"): 1})
    assert [Counter(asked[before + 1 : at + 1]) for before, at in pairwise(deletes)] == [one_look] * 19


async def surging(make_bench: MakeBench, time: FrozenDateTimeFactory) -> Bench:
    """Two batches of five users are warned, five minutes apart, of ten bookings: no surge of warnings."""
    bench = await make_bench(IDLE_SURGE_MIN=4)
    bench.platform.add_model("m")
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    for number in range(10):
        book(bench, number, 0 if number < 5 else 5, 120, 180)
    await bench.run(Job.RPS_CHECK)
    for minute in (45, 50):
        time.move_to(START + minutes(minute))
        await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
        assert await bench.stages() == ["warning"] * 5
    return bench


@pytest.mark.parametrize("way_out", ["allowed", "the window passes"])
async def test_a_surge_of_cancellings_across_runs_stops_at_the_border_and_alarms_once(
    make_bench: MakeBench, time: FrozenDateTimeFactory, way_out: str
) -> None:
    bench = await surging(make_bench, time)
    assert len(await enforce(bench, time, 60)) == 5
    assert await enforce(bench, time, 65) == []
    assert await enforce(bench, time, 66) == []
    assert bench.criticals()["idle_surge"] == 1
    assert await enforce(bench, time, 89.9) == []
    if way_out == "allowed":
        assert (await ask(bench, {"command": "allow_surge", "by": "zoe"}))["outcome"] == "completed"
    assert len(await enforce(bench, time, 89.95 if way_out == "allowed" else 90)) == 5
    assert bench.criticals()["idle_surge"] == 1


async def test_a_surge_of_cancellings_is_over_when_its_window_has_passed_and_nobody_is_left_to_cancel(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, allow = await surging(make_bench, time), {"command": "allow_surge", "by": "zoe"}
    assert len(await enforce(bench, time, 60)) == 5
    assert await enforce(bench, time, 65) == []
    assert (await ask(bench, allow))["outcome"] == "completed"
    bench.platform.call("m")
    time.move_to(START + minutes(66))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING)
    assert [event["stage"] for event in await enforce(bench, time, 67)] == ["withdrawn"] * 5
    assert (await ask(bench, allow))["outcome"] == "completed"  # one more cancelling would be a surge still
    await enforce(bench, time, 91)
    assert (await ask(bench, allow))["outcome"] == "failed"


@pytest.mark.parametrize("uninstalls", [False, True])
async def test_cancellings_of_half_of_the_bookings_are_no_surge_though_their_slots_or_models_are_gone_by_then(
    make_bench: MakeBench, time: FrozenDateTimeFactory, uninstalls: bool
) -> None:
    """Slots of an hour each day, with N = 1 h: due when the slots have ended; or each user has a model for himself."""
    mode = {"UNBOOKING_MODE": "IN_ROW", "UNINSTALL_ON_IDLE": "true"} if uninstalls else {"UNBOOKING_MODE": "ALL"}
    bench = await make_bench(IDLE_SURGE_MIN=2, IDLE_ENFORCE_MAX_PER_RUN=2, **mode)
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    for number in range(8):
        model = f"m{number}" if number < 4 else "used"
        if number < 4:
            bench.platform.add_model(model)
        book(bench, number, 0, 60, 120, model=model) if uninstalls else daily(bench, number, model)
    await bench.run(Job.RPS_CHECK)
    time.move_to(START + minutes(45))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    assert await bench.stages() == ["warning"] * 4
    heard = [len(await enforce(bench, time, minute)) for minute in (60, 60.5, 61)]
    assert (sum(heard), bench.criticals().get("idle_surge", 0)) == (4, 0)


def daily(bench: Bench, number: int, model: str) -> None:
    book(bench, number, 0, 60, model=model)
    book(bench, number, 1440, 1500, model=model)


async def enforce_until(bench: Bench, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Run idle_enforce until it asks whether it may take its next step after so many: there its replica dies."""
    asked = 0
    braked = Run.braked

    async def dies(run: Run, *rest: Any) -> bool:
        nonlocal asked
        asked += 1
        if asked > steps:
            raise asyncio.CancelledError
        return await braked(run, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "braked", dies)
        report = await bench.attempt(Job.IDLE_ENFORCE)
    assert (asked > steps) == (report.state == "interrupted"), report


@pytest.mark.parametrize("steps", range(7))
async def test_a_replica_that_dies_between_any_two_steps_changes_nothing(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    bench = await warned(make_bench, time, UNINSTALL)
    named = [slot.id for slot in bench.platform.reservations[0].slots[1:]]
    time.move_to(START + minutes(60))
    await enforce_until(bench, monkeypatch, steps)
    other = await make_bench(**UNINSTALL)
    heard = [await enforce(other, time, minute) for minute in (60.5, 61, 61.5)]
    (event,) = [event for events in heard for event in events]
    assert (event["stage"], event["uninstalled"]) == ("cancelled", True)
    assert [slot["slot_id"] for slot in event["cancelled_slots"]] == named
    assert not any("already_gone" in slot for slot in event["cancelled_slots"])
    assert len(bench.platform.deletions) == 2
    assert [command.kind for command in bench.platform.commands] == ["uninstall"]
    assert bench.platform.violations == []


@pytest.mark.parametrize("way", ["lost answer", "death"])
async def test_a_delete_that_was_carried_out_but_not_recorded_is_told_as_gone(
    make_bench: MakeBench, time: FrozenDateTimeFactory, way: str
) -> None:
    bench = await warned(make_bench, time, slots=1)
    time.move_to(START + minutes(60))
    if way == "lost answer":
        bench.platform.fault("booking", Fault.lost_answer(), method="DELETE", times=1)
        events = await enforce(bench, time, 60)
    else:
        events = await _after_a_death(make_bench, bench, time)
    assert [event["stage"] for event in events] == ["cancelled"]
    assert [slot["already_gone"] for slot in events[0]["cancelled_slots"]] == [True]
    assert len(bench.platform.deletions) == 1


async def _after_a_death(make_bench: MakeBench, bench: Bench, time: FrozenDateTimeFactory) -> list[dict[str, Any]]:
    """The replica dies when its DELETE has been carried out; another one goes on."""
    running = asyncio.create_task(bench.attempt(Job.IDLE_ENFORCE))

    async def behave(call: Call, cleared: asyncio.Event) -> None:
        await call.handle()
        for task in asyncio.all_tasks():
            if "IdleEnforce" in repr(task):
                task.cancel()
        await call.reset()

    bench.platform.fault("booking", Fault("death", behave), method="DELETE", times=1)
    await running
    return await enforce(await make_bench(), time, 61)
