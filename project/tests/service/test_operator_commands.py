"""Keep, surge, settle and withdraw by control message, through a real RabbitMQ."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from freezegun.api import FrozenDateTimeFactory
from loguru import logger
from sqlalchemy import insert, update

from limiter.api.handlers import HANDLERS
from limiter.api.messages import CONTROL_MESSAGE
from limiter.db import decisions, idle_spells, ledger, surges, tables
from limiter.domain.audit import DecisionRecord
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import IdleSpell, SpellState, Step, StepState
from limiter.domain.job import Job
from limiter.domain.reservations import Slot, User
from limiter.domain.surge import SurgeKind
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.test_control import ask, dead_letters

ANN, BEN = UUID(int=1), UUID(int=2)
MODEL = "Qwen/Qwen3-32b"
SECOND, HOUR, LONGEST = timedelta(seconds=1), timedelta(hours=1), timedelta(days=7)

KEEP = {"command": "keep", "model": MODEL}
SIGNED = {"by": "zoe", "reason": "a demo"}


def spell(user: UUID = ANN, **fields: Any) -> IdleSpell:
    """An open, delivered warning about the model."""
    slot = Slot(START, START + HOUR, "s1", "r1")
    later = Slot(START + HOUR, START + 2 * HOUR, "s2", "r1")
    warned = IdleSpell(
        id=uuid4(),
        model_id=UUID(int=7),
        model_name=MODEL,
        user=User(user, "ann"),
        state=SpellState.WARNED,
        idle_since=START - HOUR,
        opened_at=START,
        not_before=START + HOUR / 4,
        slot=slot,
        delivered_at=START,
        steps=(Step(later, StepState.NAMED),),
    )
    return replace(warned, **fields)


def command(**fields: Any) -> Command:
    """An unfinished command for the model."""
    planned = Command(uuid4(), UUID(int=7), MODEL, CommandKind.SCALE_UP, 3, CommandState.PLANNED, START)
    return replace(planned, **fields)


async def begin(bench: Bench, *spells: IdleSpell) -> None:
    async with bench.engine.begin() as connection:
        for one in spells:
            assert await idle_spells.begin(connection, one, Reason.UNUSED)


async def plan(bench: Bench, *commands: Command) -> None:
    async with bench.engine.begin() as connection:
        await ledger.plan(connection, commands, {one.id: Reason.OVERLOADED for one in commands})


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """The fields of the lines that are logged meanwhile."""
    lines: list[dict[str, Any]] = []
    handle = logger.add(lambda message: lines.append(message.record["extra"]))
    yield lines
    logger.remove(handle)


async def outcome(bench: Bench, body: dict[str, Any]) -> tuple[str, str]:
    answer = await ask(bench, body)
    assert (answer["command"], answer["job"], answer["run_id"]) == (body["command"], None, None)
    return answer["outcome"], answer["detail"]


async def refusal(bench: Bench, body: dict[str, Any]) -> str:
    """The reason of a rejected command, once it is in the dead-letter queue and the next one is carried out."""
    said, detail = await outcome(bench, body)
    assert said == "rejected"
    assert len(await dead_letters(bench, bench.settings.control_queue)) == 1
    assert (await ask(bench, {"command": "pause_job", "job": "rps_check"}))["outcome"] == "paused"
    return detail


def test_every_command_has_its_handler() -> None:
    mapping = CONTROL_MESSAGE.json_schema()["discriminator"]["mapping"]
    assert set(mapping) == set(HANDLERS)


async def test_a_keep_is_stored_with_who_asked_and_why(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await make_bench()
    said = await outcome(bench, KEEP | SIGNED | {"user_id": str(ANN), "until": "2026-03-02T14:00:00+03:00"})
    assert said == ("completed", f"{MODEL} is kept for user {ANN} until 2026-03-02 11:00:00 UTC")
    (row,) = await bench.rows(tables.keep)
    assert (row.model_name, row.user_id, row.since, row.until) == (MODEL, ANN, START, START + HOUR)
    assert (row.by, row.reason) == ("zoe", "a demo")


async def test_a_keep_without_a_user_is_for_all_and_takes_unix_seconds(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench()
    said = await outcome(bench, KEEP | {"until": (START + HOUR).timestamp()})
    assert said == ("completed", f"{MODEL} is kept for every user until 2026-03-02 11:00:00 UTC")
    (row,) = await bench.rows(tables.keep)
    assert (row.user_id, row.until, row.by, row.reason) == (None, START + HOUR, None, None)


@pytest.mark.parametrize(("model", "doubt"), [(MODEL, ""), (MODEL.lower(), "; no model of that name runs now")])
async def test_a_keep_of_a_name_that_no_running_model_has_says_so(
    make_bench: MakeBench, time: FrozenDateTimeFactory, model: str, doubt: str
) -> None:
    bench = await make_bench()
    bench.platform.add_model(MODEL)
    await bench.run(Job.RPS_CHECK)
    how, detail = await outcome(bench, KEEP | {"model": model, "until": (START + HOUR).isoformat()})
    assert (how, detail.partition(" UTC")[2].partition(":")[0]) == ("completed", doubt)


async def test_a_shorter_keep_beside_a_longer_one_says_until_when_it_holds(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench()
    for end in (START + 2 * HOUR, START + HOUR):
        _, detail = await outcome(bench, KEEP | {"until": end.isoformat()})
        assert detail.endswith("until 2026-03-02 12:00:00 UTC")


@pytest.mark.parametrize("until", [START + SECOND, START + LONGEST])
async def test_a_keep_may_end_a_moment_or_the_longest_time_from_now(
    make_bench: MakeBench, time: FrozenDateTimeFactory, until: datetime
) -> None:
    bench = await make_bench()
    assert (await outcome(bench, KEEP | {"until": until.isoformat()}))[0] == "completed"


@pytest.mark.parametrize("until", [START - HOUR, START])
async def test_a_keep_that_ends_now_or_before_is_rejected(
    make_bench: MakeBench, time: FrozenDateTimeFactory, until: datetime
) -> None:
    bench = await make_bench()
    why = f"keep.until: {until.isoformat()} is not in the future: it is {START.isoformat()}"
    assert await refusal(bench, KEEP | {"until": until.isoformat()}) == why
    assert await bench.rows(tables.keep) == []


@pytest.mark.parametrize("longest", [LONGEST, HOUR])
async def test_a_keep_beyond_the_longest_time_is_rejected(
    make_bench: MakeBench, time: FrozenDateTimeFactory, longest: timedelta
) -> None:
    bench = await make_bench(keep_longest_seconds=longest.total_seconds())
    until, most = START + longest + SECOND, f"{longest.total_seconds():g}"
    why = f"keep.until: {until.isoformat()} is later than KEEP_LONGEST_SECONDS ({most}) from now, {START.isoformat()}"
    assert await refusal(bench, KEEP | {"until": until.isoformat()}) == why
    assert await bench.rows(tables.keep) == []


WRONG = {
    "no end": (KEEP, "keep.until: Field required"),
    "no zone": (KEEP | {"until": "2026-03-02T11:00"}, "must tell its zone"),
    "no moment": (KEEP | {"until": "tomorrow"}, "keep.until: 'tomorrow' is neither"),
    "milliseconds": (KEEP | {"until": 1772449200000}, "'1772449200000' is neither"),
    "a truth value": (KEEP | {"until": True}, "'True' is neither"),
    "no number": (KEEP | {"until": float("nan")}, "'nan' is neither"),
    "user no id": (KEEP | {"until": 1772449200, "user_id": "ann"}, "keep.user_id: "),
    "a job": (KEEP | {"until": 1772449200, "job": "rps_check"}, "keep.job: Extra inputs are not permitted"),
    "a NUL": ({"command": "unkeep", "model": "a\0b"}, "unkeep.model: "),
    "too long a reason": ({"command": "allow_surge", "reason": "x" * 501}, "allow_surge.reason: "),
    "unkeep until": ({"command": "unkeep", "model": MODEL, "until": 17}, "unkeep.until: Extra inputs"),
    "a surge of a model": ({"command": "allow_surge", "model": MODEL}, "allow_surge.model: Extra inputs"),
    "no outcome": ({"command": "settle", "model": MODEL}, "settle.outcome: Field required"),
    "another outcome": ({"command": "settle", "model": MODEL, "outcome": "stuck"}, "settle.outcome: "),
    "nobody's spell": ({"command": "withdraw", "model": MODEL}, "withdraw.user_id: Field required"),
    "a signed question": ({"command": "explain", "model": MODEL, "by": "ann"}, "explain.by: Extra inputs"),
    "a long unknown one": ({"command": "x" * 5000}, "body: Input tag 'xxx"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_command_with_a_wrong_missing_or_foreign_field_is_rejected_and_names_it(
    make_bench: MakeBench, case: str
) -> None:
    body, rule = WRONG[case]
    bench = await make_bench()
    answer = await ask(bench, body)
    assert answer["outcome"] == "rejected"
    assert rule in answer["detail"]
    assert len(answer["detail"]) <= 1000
    assert len(await dead_letters(bench, bench.settings.control_queue)) == 1
    assert (await ask(bench, {"command": "pause_job", "job": "rps_check"}))["outcome"] == "paused"


async def test_unkeep_ends_the_keep_of_that_user_now(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await make_bench()
    for user in ({"user_id": str(ANN)}, {}):
        await ask(bench, KEEP | user | {"until": (START + HOUR).isoformat()})
    time.move_to(START + HOUR / 2)
    said = await outcome(bench, {"command": "unkeep", "model": MODEL, "user_id": str(ANN)} | SIGNED)
    assert said == ("completed", f"1 keep of '{MODEL}' for user {ANN} ended; idle time counts anew from now")
    ends = {row.user_id: row.until for row in await bench.rows(tables.keep)}
    assert ends == {ANN: START + HOUR / 2, None: START + HOUR}


async def test_unkeep_of_nothing_fails_and_names_it(make_bench: MakeBench) -> None:
    said = await outcome(await make_bench(), {"command": "unkeep", "model": MODEL})
    assert said == ("failed", f"there is no keep in force of '{MODEL}' for every user")


async def test_a_surge_is_allowed_by_whoever_says_so(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await make_bench()
    async with bench.engine.begin() as connection:
        for kind in SurgeKind:
            await surges.begin(connection, kind, START)
    time.move_to(START + SECOND)
    said = await outcome(bench, {"command": "allow_surge"} | SIGNED)
    assert said == ("completed", "allowed: cancelling and warning")
    rows = await bench.rows(tables.surge)
    assert {(row.kind, row.allowed_at, row.allowed_by) for row in rows} == {
        (kind, START + SECOND, "zoe") for kind in SurgeKind
    }


async def test_without_a_surge_there_is_nothing_to_allow(make_bench: MakeBench) -> None:
    assert await outcome(await make_bench(), {"command": "allow_surge"}) == ("failed", "there is no surge to allow")


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_settle_ends_the_unfinished_commands_of_every_instance_of_the_name(
    make_bench: MakeBench, time: FrozenDateTimeFactory, end: str
) -> None:
    bench = await make_bench()
    twin, other = command(model_id=UUID(int=8)), command(model_id=UUID(int=9), model_name="another")
    await plan(bench, command(), twin, other)
    said, detail = await outcome(bench, {"command": "settle", "model": MODEL, "outcome": end} | SIGNED)
    assert said == "completed"
    assert f"scale_up of model {twin.model_id}, planned 2026-03-02 10:00:00 UTC: {end}" in detail
    assert len(detail.splitlines()) == 2
    rows = {row.model_id.int: row for row in await bench.rows(tables.command)}
    assert [rows[id].state for id in (7, 8, 9)] == [end, end, "planned"]
    assert (rows[7].error, rows[7].finished_at) == ("by hand: a demo (by zoe)", START)


async def test_the_log_says_who_did_it_and_why(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await plan(bench, command(sent_at=START))
    with logged() as lines:
        await ask(bench, {"command": "settle", "model": MODEL, "outcome": "failed"} | SIGNED)
    by_event = {line.get("event"): line for line in lines}
    for event in ("settled_by_hand", "control"):
        assert SIGNED.items() <= by_event[event].items()
        assert by_event[event]["model"] == MODEL
    assert by_event["settled_by_hand"]["model_id"] == str(UUID(int=7))


async def test_the_log_says_why_a_command_was_not_carried_out(make_bench: MakeBench) -> None:
    bench = await make_bench()
    lines: list[str] = []
    handle = logger.add(lambda message: lines.append(message.record["message"]))
    await ask(bench, {"command": "settle", "model": MODEL, "outcome": "failed"})
    await ask(bench, {"command": "allow_surge"})
    await ask(bench, {"command": "status"})
    logger.remove(handle)
    assert [line for line in lines if line.split(":")[0].split()[0] in ("settle", "allow_surge", "status")] == [
        f"settle {MODEL}: failed: there is no unfinished command for a model named '{MODEL}'",
        "allow_surge: failed: there is no surge to allow",
        "status: completed",
    ]


async def test_settle_without_an_unfinished_command_fails(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await plan(bench, command(state=CommandState.DRY_RUN, finished_at=START))
    said = await outcome(bench, {"command": "settle", "model": MODEL, "outcome": "failed"})
    assert said == ("failed", f"there is no unfinished command for a model named '{MODEL}'")


@pytest.mark.parametrize("state", [SpellState.WARNING_PENDING, SpellState.WARNED, SpellState.ENFORCING])
async def test_withdraw_closes_the_users_open_spell_whatever_its_state(
    make_bench: MakeBench, time: FrozenDateTimeFactory, state: SpellState
) -> None:
    bench = await make_bench()
    await begin(bench, spell(state=state), spell(BEN))
    body = {"command": "withdraw", "model": MODEL, "user_id": str(ANN)} | SIGNED
    said = await outcome(bench, body)
    assert said == ("completed", f"model {UUID(int=7)}: closed, was {state}")
    spells = {row.user_id: row for row in await bench.rows(tables.idle_spell)}
    assert [spells[user].state for user in (ANN, BEN)] == ["withdrawn", "warned"]
    assert (spells[ANN].reason, spells[ANN].closed_at) == ("by_operator", START)
    (audited,) = await bench.rows(tables.decision)
    assert (audited.decision, audited.reason) == ("withdraw", "by_operator")
    assert audited.numbers["why"] == "by hand: a demo (by zoe)"
    assert (await outcome(bench, body))[0] == "failed"


async def test_a_withdrawn_warning_is_told_once_as_by_operator(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench()
    await begin(bench, spell())
    body = {"command": "withdraw", "model": MODEL, "user_id": str(ANN)}
    for _ in range(2):
        await ask(bench, body)
    await bench.run(Job.EVENT_DISPATCH)
    (event,) = await bench.events()
    assert (event["reservation"]["stage"], event["reservation"]["closing_reason"]) == ("withdrawn", "by_operator")


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_what_a_person_closes_is_counted_and_logged_as_what_a_job_closes(
    make_bench: MakeBench, time: FrozenDateTimeFactory, cancelled: int
) -> None:
    bench = await make_bench()
    (left,) = spell().steps
    gone = replace(left, slot=replace(left.slot, id="s3"), state=StepState.DONE, attempts=1)
    paused = spell(state=SpellState.ENFORCING, steps=(gone, replace(left, state=StepState.PLANNED)))
    await begin(bench, paused if cancelled else spell())
    if cancelled:
        async with bench.engine.begin() as connection:
            states = {one.slot.id: one.state for one in paused.steps}
            for id, state in states.items():
                of_slot = update(tables.cancellation).where(tables.cancellation.c.slot_id == id)
                await connection.execute(of_slot.values(state=state))
    with logged() as lines:
        await ask(bench, {"command": "withdraw", "model": MODEL, "user_id": str(ANN)})
    decision = "cancel" if cancelled else "withdraw"
    assert bench.count("decisions_total", decision=decision, reason="by_operator") == 1
    assert [bench.count(f"{what}_cancelled_total") for what in ("models", "slots")] == [cancelled, cancelled]
    assert [line["decision"] for line in lines if line.get("event") == "decided"] == [decision]
    assert len([line for line in lines if line.get("event") == "enforced"]) == cancelled


async def test_withdraw_without_an_open_spell_fails(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await begin(bench, spell(BEN), spell(ANN, model_id=UUID(int=9), model_name="another"))
    said = await outcome(bench, {"command": "withdraw", "model": MODEL, "user_id": str(ANN)})
    assert said == ("failed", f"user {ANN} has no open idle spell of '{MODEL}'")


async def test_pause_records_who_and_why_and_resume_forgets_it(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await ask(bench, {"command": "pause_job", "job": "idle_enforce"} | SIGNED)
    (row,) = [row for row in await bench.rows(tables.job) if row.paused]
    assert (row.name, row.paused_by, row.paused_reason) == ("idle_enforce", "zoe", "a demo")
    await ask(bench, {"command": "resume_job", "job": "idle_enforce"} | SIGNED)
    assert {row.paused_by for row in await bench.rows(tables.job)} == {None}


async def test_without_by_the_user_whom_the_broker_has_checked_signs(make_bench: MakeBench) -> None:
    bench = await make_bench()
    user = urlsplit(bench.settings.rabbitmq_url.get_secret_value()).username
    await ask(bench, {"command": "pause_job", "job": "idle_enforce"}, user_id=user)
    await ask(bench, {"command": "pause_job", "job": "idle_warning", "by": "zoe"}, user_id=user)
    signed = {row.name: row.paused_by for row in await bench.rows(tables.job) if row.paused}
    assert signed == {"idle_enforce": user, "idle_warning": "zoe"}


async def test_a_replica_whose_clock_is_off_obeys_only_what_needs_no_clock(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=60)  # the time stands still in the past
    await bench.scheduler.tick(Job.SAGA_POLL)
    for body in (KEEP | {"until": (START + HOUR).isoformat()}, {"command": "allow_surge"}):
        said, detail = await outcome(bench, body)
        assert said == "failed"
        assert "clock" in detail
    assert await bench.rows(tables.keep) == []
    assert (await ask(bench, {"command": "resume_job", "job": "rps_check"}))["outcome"] == "failed"
    assert (await ask(bench, {"command": "pause_job", "job": "rps_check"}))["outcome"] == "paused"


async def test_explain_tells_keeps_spells_and_unfinished_commands(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench()
    await begin(bench, spell())
    await plan(bench, command())
    await ask(bench, KEEP | SIGNED | {"until": (START + HOUR).isoformat()})
    await ask(bench, KEEP | {"until": (START + HOUR).isoformat(), "model": "another"})
    time.move_to(START + timedelta(minutes=5))
    answer = await ask(bench, {"command": "explain", "model": MODEL})
    assert answer["detail"].splitlines() == [
        "keeps in force:",
        "every user, 2026-03-02 10:00:00 to 2026-03-02 11:00:00, by zoe: a demo",
        "open spells:",
        f"model {UUID(int=7)}, user {ANN}: warned, unused since 2026-03-02 09:00:00, warned 2026-03-02 10:00:00, "
        "cancelling not before 2026-03-02 10:15:00, slots: 2026-03-02 11:00:00 to 2026-03-02 12:00:00 named",
        "unfinished commands:",
        f"model {UUID(int=7)}: scale_up to 3, planned, planned 5 min ago, not sent yet",
    ]
    await ask(bench, {"command": "pause_job", "job": "idle_enforce"} | SIGNED)
    *_, title, pause = (await ask(bench, {"command": "explain", "model": MODEL}))["detail"].splitlines()
    assert (title, pause[:19]) == ("paused, for every model:", "idle_enforce since ")
    assert pause.endswith(", by zoe: a demo")
    assert (await ask(bench, {"command": "explain", "model": "none"}))["outcome"] == "failed"
    time.move_to(START + HOUR)
    assert "keeps in force" not in (await ask(bench, {"command": "explain", "model": MODEL}))["detail"]


@pytest.mark.usefixtures("time")
async def test_what_somebody_wrote_neither_makes_a_line_of_an_explanation_nor_moves_the_cursor(
    make_bench: MakeBench,
) -> None:
    bench = await make_bench()
    reason = "a\n2026-03-02 10:00:00  model b: cancel\r\x1b[2J\u202e"
    await ask(bench, KEEP | {"until": (START + HOUR).isoformat(), "by": "zoe", "reason": reason})
    _, line = (await ask(bench, {"command": "explain", "model": MODEL}))["detail"].split("\n")
    assert line.endswith("by zoe: a\\n2026-03-02 10:00:00  model b: cancel\\r\\x1b[2J\\u202e")


NEW = "Qwen/Qwen3-32b-Instruct"


async def rename(bench: Bench) -> None:
    """The model runs by its new name; the spell, the command and what stands have the one it had before."""
    await begin(bench, spell(), spell(BEN, model_id=UUID(int=9), model_name="another"))
    await plan(bench, command(), command(model_id=UUID(int=9), model_name="another"))
    async with bench.engine.begin() as connection:
        for id, name, before in ((7, NEW, MODEL), (9, "another", "another")):
            record = DecisionRecord(
                START, UUID(int=id), before, ANN, Decision.HOLD, Reason.IN_USE, {"idle_seconds": 60}
            )
            await decisions.record(connection, [record], dry_run=False)
            state = {"model_id": UUID(int=id), "model_name": name, "replicas": 1, "first_seen_at": START}
            await connection.execute(insert(tables.scaling_state).values(state))


@pytest.mark.parametrize("name", [MODEL, NEW])
async def test_a_renamed_model_is_explained_by_either_name(make_bench: MakeBench, name: str) -> None:
    bench = await make_bench()
    await rename(bench)
    text = (await ask(bench, {"command": "explain", "model": name}))["detail"]
    assert f"model {UUID(int=7)}, user {ANN}: hold (in_use)" in text
    assert f"model {UUID(int=7)}, user {ANN}: warned, unused since" in text
    assert f"model {UUID(int=7)}: scale_up to 3, planned" in text
    assert f"user {BEN}" not in text
    assert str(UUID(int=9)) not in text


@pytest.mark.parametrize("name", [MODEL, NEW])
async def test_a_command_to_a_renamed_model_is_settled_by_either_name(make_bench: MakeBench, name: str) -> None:
    bench = await make_bench()
    await rename(bench)
    said, detail = await outcome(bench, {"command": "settle", "model": name, "outcome": "failed"})
    assert said == "completed"
    assert detail.startswith(f"scale_up of model {UUID(int=7)}, planned ")
    rows = {row.model_id.int: row.state for row in await bench.rows(tables.command)}
    assert rows == {7: "failed", 9: "planned"}


@pytest.mark.parametrize("name", [MODEL, NEW])
async def test_a_spell_of_a_renamed_model_is_withdrawn_by_either_name(make_bench: MakeBench, name: str) -> None:
    bench = await make_bench()
    await rename(bench)
    said = await outcome(bench, {"command": "withdraw", "model": name, "user_id": str(ANN)})
    assert said == ("completed", f"model {UUID(int=7)}: closed, was warned")
