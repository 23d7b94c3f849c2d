"""A cancelling that is overtaken: by its booking, model, settings, an operator, a bad entry; N = 60 min, Y = 15."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.booking import Reservation
from dev.fake_platform.call import Call
from dev.fake_platform.faults import Fault, plain
from dev.fake_platform.platform import Platform
from dev.servers.services import Services
from limiter.db import tables
from limiter.domain.job import Job
from limiter.effects.commands import Commands
from limiter.effects.enforcing import Enforcing
from limiter.runner.run import Run
from tests.bench import open_bench
from tests.conftest import START, MakeBench
from tests.service.stories import USERS, Stage, clock, lines
from tests.service.test_control import ask

NOTHING: Mapping[str, object] = MappingProxyType({})
UNINSTALL = {"UNINSTALL_ON_IDLE": "true"}
ROWS = "0 ann books 0-120\n0 ann books 120-180\n0 ann books 180-240"
REFUSED = "50 all cancellations are answered with 403\n62 cancellations are allowed"
Hook = Callable[[Stage], Any]


async def play(
    make: MakeBench,
    time: FrozenDateTimeFactory,
    happens: str,
    runs: tuple[int, ...],
    hook: tuple[int, Hook] = (0, lambda _: None),
    settings: Mapping[str, object] = NOTHING,
) -> Stage:
    """As a story, with a function that is called in a minute after its words; a run may fail."""
    stage = Stage(await make(**settings), time, make)
    stage.settings, at = settings, hook[0]
    stage.broken.add("anything")
    happening = lines(happens)
    for minute in sorted({*runs, at, *(one[0] for one in happening)}):
        time.move_to(START + timedelta(minutes=minute))
        for _, words in (one for one in happening if one[0] == minute):
            await stage.happen(words)
        if minute == at and (done := hook[1](stage)) is not None:
            await done
        if minute in runs:
            await stage._sweep()
            await stage._watch(minute)
    return stage


def acts(stage: Stage, word: str) -> list[str]:
    return [f"{minute} {words}" for minute, words in sorted(stage.acts) if word in words]


def of(stage: Stage, start: int) -> Reservation:
    """Ann's reservation whose slot begins then."""
    return next(one for one in stage._of("ann") if any(clock(slot.start) == start for slot in one.slots))


def moved(stage: Stage, start: int) -> None:
    of(stage, start).model_name = "other"  # which is used all the time


# --- the booking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("while_refused", [False, True])
async def test_a_reservation_that_became_another_models_is_not_cancelled(
    make_bench: MakeBench, time: FrozenDateTimeFactory, while_refused: bool
) -> None:
    def before_it_is_read(stage: Stage) -> None:
        async def behave(call: Call, cleared: asyncio.Event) -> None:
            moved(stage, 120)
            await plain(call, cleared)

        stage.platform.fault("booking", Fault("moved", behave), path="/reservations/", method="GET", times=1)

    if while_refused:
        hook: tuple[int, Hook] = (62, lambda stage: moved(stage, 120))
        stage = await play(make_bench, time, f"{ROWS}\n{REFUSED}", (0, 45, 60, 65, 75), hook)
    else:
        stage = await play(make_bench, time, ROWS, (0, 45, 60, 75), (50, before_it_is_read))
    assert [gone.model_name for gone in stage.platform.deletions] == ["m"]
    assert acts(stage, "cancelled")[0].endswith("hears cancelled 180-240")


@pytest.mark.parametrize("to", ["another model", "another instance"])
async def test_a_slot_that_its_user_still_has_is_not_told_as_gone(
    make_bench: MakeBench, time: FrozenDateTimeFactory, to: str
) -> None:
    second = UUID(int=2**128 - 1)

    def change(stage: Stage) -> None:
        if to == "another model":
            return moved(stage, 180)
        stage.platform.add_model("m", id=second)
        of(stage, 180).model_id = str(second)
        return None

    stage = await play(make_bench, time, ROWS, (0, 45, 60, 61), (50, change))
    assert of(stage, 180)
    assert acts(stage, "hears cancelled") == ["60 ann hears cancelled 120-180"]


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("status", [410, 422, 500])
async def test_one_reservation_that_cannot_be_read_holds_up_neither_the_others_nor_the_end(
    make_bench: MakeBench, time: FrozenDateTimeFactory, status: int, used: bool
) -> None:
    def unreadable(stage: Stage) -> None:
        stage.platform.fault("booking", Fault.status(status), path=of(stage, 120).id, method="GET")

    happens = f"{ROWS}\n65 m is called" if used else ROWS
    stage = await play(make_bench, time, happens, (0, 45, 60, 61, 66, 185), (50, unreadable))
    assert acts(stage, "loses") == ["60 ann loses 180-240 as a whole"]
    failed = "" if used else " failed 120-180"
    assert acts(stage, "hears cancelled") == [f"{66 if used else 185} ann hears cancelled 180-240{failed}"]


async def test_two_reservations_that_are_not_answered_are_taken_for_an_outage(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    def silent(stage: Stage) -> None:
        stage.platform.fault("booking", Fault.status(500), path="/reservations/", method="GET")

    happens = f"{ROWS}\n0 ann books 240-300\n0 ann books 300-360"
    stage = await play(make_bench, time, happens, (0, 45, 60), (50, silent))
    asked = [one for one in stage.platform.history if one.method == "GET" and "/reservations/" in one.path]
    assert len(asked) == 2 * stage.bench.settings.http_attempts


async def test_a_model_that_another_user_has_by_its_id_is_not_uninstalled_though_his_entry_is_bad(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    def bad_entry(stage: Stage) -> None:
        hours = [START + timedelta(hours=hour) for hour in (0, 3, 3)]  # the second slot is empty: not understood
        (id,) = [str(model.id) for model in stage.platform.models if model.name == "m"]
        stage.platform.add_reservation(str(USERS["ben"]), "ben", "m, as it was called", [*pairwise(hours)], id)

    stage = await play(make_bench, time, "0 ann books 0-120 120-180", (0, 45, 60, 61), (0, bad_entry), UNINSTALL)
    assert stage.platform.commands == []


def long_id(stage: Stage) -> None:
    (slot,) = of(stage, 120).slots
    slot.id = "".join(f"{number:x}" for number in range(10_000))


def half_an_emoji(stage: Stage) -> None:
    """A name cut in the middle of an emoji, as Java and JavaScript cut: lawful JSON, though no text."""
    stage.platform.add_reservation(str(USERS["dan"]), "danHALF", "other", slots=[(START, START + timedelta(hours=3))])
    stage.platform.fault("booking", Fault.rewrite(lambda body: body.replace("HALF", "\\ud83d")))


@pytest.mark.parametrize("bad", [long_id, half_an_emoji])
async def test_an_entry_that_cannot_be_stored_stops_no_other(
    make_bench: MakeBench, time: FrozenDateTimeFactory, bad: Hook
) -> None:
    happens = "0 another n runs\n0 ben books 0-120 120-180 of n\n0 ann books 0-120\n0 ann books 120-180"
    stage = await play(make_bench, time, happens, (0, 45, 60), (0, bad))
    assert {row.state for row in await stage.bench.rows(tables.job_run)} == {"completed"}
    assert acts(stage, "ben loses") == ["60 ben loses 120-180"]


# --- a keep, and other settings ---------------------------------------------------------------------------------------


async def test_after_a_keep_in_the_middle_of_a_cancelling_idle_time_counts_anew(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    booked = "0 ann books 0-120 120-180 180-240"
    outage = f"""{booked}
    50 after the first cancellation: booking breaks
    70 the operator keeps m until 110
    115 booking heals"""
    stage = await play(make_bench, time, outage, (0, 45, 60, 75, 120, 121))
    assert acts(stage, "loses") == ["60 ann loses 120-180"]
    assert acts(stage, "hears cancelled") == ["120 ann hears cancelled 120-180"]


async def test_a_keep_that_was_ended_while_a_cancelling_was_refused_withdraws_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    async def keep_and_unkeep(stage: Stage) -> None:
        await stage.keep("m", "", "300")
        await stage.unkeep("m")

    stage = await play(make_bench, time, f"{ROWS}\n{REFUSED}", (0, 45, 60, 63), (61, keep_and_unkeep))
    assert acts(stage, "loses") == []
    assert acts(stage, "hears withdrawn") == ["63 ann hears withdrawn: kept"]


async def test_a_renamed_model_that_is_used_in_the_middle_of_a_cancelling_keeps_the_rest(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    def rename(stage: Stage) -> None:
        (model,) = [one for one in stage.platform.models if one.name == "m"]
        for booked in stage._of("ann"):
            booked.model_id = str(model.id)
        model.name = "m2"

    happens = f"{ROWS}\n55 after the first cancellation: m2 is called"
    stage = await play(make_bench, time, happens, (0, 45, 60, 61), (50, rename))
    assert acts(stage, "loses") == ["60 ann loses 120-180 as a whole"]


# --- the uninstall ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", ["0-180", "0-120 120-180"])
@pytest.mark.parametrize("by_operator", [False, True])
async def test_a_model_that_was_uninstalled_is_told_as_such_whatever_was_changed_since(
    make_bench: MakeBench, time: FrozenDateTimeFactory, slots: str, by_operator: bool
) -> None:
    async def change(stage: Stage) -> None:
        await stage.bench.run(Job.SAGA_POLL)
        assert [row.state for row in await stage.bench.rows(tables.command)] == ["completed"]
        await (stage.withdraw("ann") if by_operator else stage.restart("UNINSTALL_ON_IDLE=false"))

    stage = await play(make_bench, time, f"0 ann books {slots}", (0, 45, 60, 61), (61, change), UNINSTALL)
    (closing,) = [words for _, words in stage.acts if "hears" in words and "warning" not in words]
    assert closing.startswith("ann hears cancelled")
    assert closing.endswith("uninstalled")


async def test_a_withdrawal_while_the_uninstall_is_under_way_is_told_as_it_ends(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    def end_it(stage: Stage) -> None:
        for saga in stage.platform.running_sagas():
            stage.platform.release(saga)

    happens = "0 ann books 0-180\n50 the next saga never ends\n61 the operator withdraws ann's warning"
    stage = await play(make_bench, time, happens, (0, 45, 60, 61, 62), (62, end_it), UNINSTALL)
    assert acts(stage, "hears")[1:] == ["62 ann hears cancelled uninstalled"]


@pytest.mark.parametrize(("owner", "method"), [(Enforcing, "_planned"), (Commands, "_mark_sent")])
async def test_no_uninstall_goes_out_once_an_operator_has_closed_the_spell(
    make_bench: MakeBench,
    time: FrozenDateTimeFactory,
    monkeypatch: pytest.MonkeyPatch,
    owner: type[object],
    method: str,
) -> None:
    stages: list[Stage] = []
    as_it_is = getattr(owner, method)

    async def overtaken(self: object, run: Run, *rest: object) -> object:
        if stages and run.claim.job is Job.IDLE_ENFORCE:
            words = {"command": "withdraw", "model": "m", "user_id": str(USERS["ann"])}
            assert (await ask(stages.pop().bench, words))["outcome"] == "completed"
        return await as_it_is(self, run, *rest)

    monkeypatch.setattr(owner, method, overtaken)
    stage = await play(make_bench, time, "0 ann books 0-180", (0, 45, 60, 61), (0, stages.append), UNINSTALL)
    assert acts(stage, "hears")[1:] == ["60 ann hears withdrawn: by_operator"]
    assert stage.platform.commands == []
    assert {row.state for row in await stage.bench.rows(tables.command)} <= {"failed"}


@pytest.mark.parametrize("short", [False, True])
async def test_a_model_that_the_registry_does_not_tell_of_for_sure_is_not_gone(
    make_bench: MakeBench, time: FrozenDateTimeFactory, short: bool
) -> None:
    def change(body: str) -> str:
        page = json.loads(body)
        for one in page["items"]:
            one["instance"] = None if one["name"] == "m" else one["instance"]
        if short:  # `total` still counts it
            page["items"] = [one for one in page["items"] if one["name"] != "m"]
        return json.dumps(page)

    def before_the_uninstall(stage: Stage) -> None:
        for _ in range(3):  # rps_check, idle_warning, and the sweep of idle_enforce
            stage.platform.fault("registry", Fault("plain", plain), times=1)
        stage.platform.fault("registry", Fault.rewrite(change), times=1)

    stage = await play(make_bench, time, "0 ann books 0-180", (0, 45, 60, 61), (60, before_the_uninstall), UNINSTALL)
    assert acts(stage, "is uninstalled") == ["61 m is uninstalled"]


async def test_with_no_time_to_wait_for_it_a_model_is_uninstalled_all_the_same(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    settings = UNINSTALL | {"UNINSTALL_TELL_SECONDS": 0}
    stage = await play(make_bench, time, "0 ann books 0-120 120-180", (0, 45, 60), settings=settings)
    assert acts(stage, "is uninstalled") == ["60 m is uninstalled"]


async def test_a_model_used_while_its_uninstall_was_refused_is_told_as_used(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    happens = "0 ann books 0-180\n50 the next uninstall is refused\n50 the next uninstall is refused\n62 m is called"
    stage = await play(make_bench, time, happens, (0, 45, 60, 61, 62), settings=UNINSTALL)
    assert acts(stage, "withdrawn") == ["62 ann hears withdrawn: used"]


# --- a share ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [{"command": "withdraw", "user_id": str(USERS["ann"])}, {"command": "settle"}])
async def test_a_command_about_a_model_of_another_share_is_refused_and_told_whose_it_is(
    services: Services, schema: str, platform: Platform, words: dict[str, str]
) -> None:
    of_command = {"outcome": "failed"} if words["command"] == "settle" else {}
    async with open_bench(services, schema, platform, SHARD="1/2") as bench:
        answer = await ask(bench, {"model": "m"} | words | of_command)
    assert answer["outcome"] == "rejected"
    assert "SHARD=0/2" in answer["detail"]
