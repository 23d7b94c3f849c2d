"""The status page and its JSON, from a composed replica on real Postgres."""

import asyncio
import json
from datetime import timedelta
from time import process_time
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from freezegun.api import FrozenDateTimeFactory
from sqlalchemy import insert, update

from dev.fake_platform.platform import Platform
from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter.api import status
from limiter.api.http import http_app
from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.test_control import ask

ANN = "00000000-0000-0000-0000-0000000000a1"
HOUR = timedelta(hours=1)
WICKED = '<script>alert(1)</script>&"quoted"'


async def got(bench: Bench, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(http_app(bench.replica.health))
    async with httpx.AsyncClient(transport=transport, base_url="http://limiter") as client:
        return await client.get(path)


async def warned(make_bench: MakeBench, time: FrozenDateTimeFactory, **settings: Any) -> Bench:
    """Ann is warned after 45 minutes about one hour of a model with a wicked name; half of the way has passed."""
    bench = await make_bench(**settings)
    bench.platform.add_model(WICKED)
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    hours = [START + timedelta(hours=hour) for hour in (0, 2, 3)]
    bench.platform.add_reservation(ANN, "ann", WICKED, slots=[(hours[0], hours[1]), (hours[1], hours[2])])
    await bench.run(Job.RPS_CHECK)
    time.move_to(START + timedelta(minutes=45))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    time.move_to(START + timedelta(minutes=52, seconds=30))
    return bench


@pytest.mark.parametrize("limits", [{}, {"POLICY_OVERRIDES": json.dumps({WICKED: {"idle_limit_seconds": 5400}})}])
async def test_after_a_pause_the_deadline_is_where_a_full_idle_limit_ends(
    make_bench: MakeBench, time: FrozenDateTimeFactory, limits: dict[str, str]
) -> None:
    bench = await warned(make_bench, time)
    if limits:
        bench = await make_bench(**limits)
    for command in ("pause_job", "resume_job"):
        await ask(bench, {"command": command, "job": "idle_enforce"})
    due = START + timedelta(minutes=52, seconds=30) + timedelta(minutes=90 if limits else 60)
    (one,) = (await got(bench, "/status")).json()["next"]
    assert (one["not_before"], one["progress"]) == (due.isoformat(), 8 if limits else 11)
    assert (await bench.replica.health.status_reader.numbers()).next_deadline == due.timestamp()


async def test_a_lead_that_is_longer_since_the_warning_puts_the_deadline_off(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    await warned(make_bench, time)
    bench = await make_bench(IDLE_WARNING_LEAD_SECONDS=1800)
    due = START + timedelta(minutes=45 + 30)
    (one,) = (await got(bench, "/status")).json()["next"]
    assert (one["not_before"], one["progress"]) == (due.isoformat(), 25)
    assert (await bench.replica.health.status_reader.numbers()).next_deadline == due.timestamp()


async def test_it_tells_who_loses_what_and_when(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await warned(make_bench, time)
    found = (await got(bench, "/status")).json()
    (one,) = found["next"]
    assert (one["user_name"], one["model_name"], one["slots"], one["state"]) == ("ann", WICKED, 1, "warned")
    assert one["not_before"] == (START + timedelta(hours=1)).isoformat()
    assert one["progress"] == 50
    assert (found["next_total"], found["models_total"], found["replicas"], found["dry_run"]) == (1, 2, 2, False)
    assert {job["name"]: job["state"] for job in found["jobs"]}["idle_warning"] == "completed"
    assert {job["interval_seconds"] for job in found["jobs"]} >= {15, 60}
    assert "example.org" not in json.dumps(found)
    assert [one["decision"] for one in found["decisions"]].count("warn") == 1


async def test_the_page_escapes_what_it_shows_runs_no_script_and_shows_no_address(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await warned(make_bench, time)
    answer = await got(bench, "/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#34;quoted&#34;" in answer.text
    assert "example.org" not in answer.text
    assert "03-02 11:00:00, in 8 min" in answer.text
    assert "Dry run" not in answer.text


async def test_a_name_does_not_turn_around_what_stands_behind_it_on_the_page(make_bench: MakeBench) -> None:
    bench = await make_bench()
    bench.platform.add_model("модель \u202eledom")
    await bench.run(Job.RPS_CHECK)
    page = (await got(bench, "/")).text
    assert "модель \\u202eledom" in page
    assert page.replace("\n", "").isprintable()


async def test_a_dry_run_and_a_pause_are_told_before_anything_else(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await warned(make_bench, time, DRY_RUN="true")
    await ask(bench, {"command": "pause_job", "job": "idle_enforce", "by": "eve", "reason": "a move"})
    text = (await got(bench, "/")).text
    assert text.index("Dry run: everything is decided") < text.index("idle_enforce is paused") < text.index("Who loses")
    assert "by eve" in text
    assert "a move" in text
    assert "would warn" in text


async def test_the_same_is_told_to_a_control_message(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await warned(make_bench, time)
    reply = await ask(bench, {"command": "status"})
    assert reply["outcome"] == "completed"
    assert f"  ann of {WICKED}: 1 slot, warned, warned" in reply["detail"]
    assert "fleet: 2 models, 2 replicas" in reply["detail"]
    assert "events that wait: 0" in reply["detail"]


async def test_a_surge_is_told_with_whom_it_holds_back(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await warned(make_bench, time, IDLE_SURGE_MIN=0, IDLE_SURGE_SHARE=0.5)
    (surge,) = (await got(bench, "/status")).json()["surges"]
    assert (surge["kind"], surge["allowed_at"]) == ("warning", None)
    assert [(one["user_id"], one["model_name"]) for one in surge["held"]] == [(ANN, WICKED)]
    text = (await got(bench, "/")).text
    assert "Nobody: every booked model is used" not in text
    assert f"Held back: user {ANN} of &lt;script&gt;" in text
    await ask(bench, {"command": "allow_surge", "by": "eve"})
    assert "surge of warnings, begun 8 min ago: allowed by eve\n" in (await ask(bench, {"command": "status"}))["detail"]


async def test_of_many_whom_a_surge_holds_back_it_is_told_how_many_are_not_shown(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await warned(make_bench, time, IDLE_SURGE_MIN=0, IDLE_SURGE_SHARE=0.5)
    (row,) = [one for one in await bench.rows(tables.decision) if one.reason == "idle_surge"]
    async with bench.engine.begin() as connection:
        for number in range(2):
            other = {name: value for name, value in row._asdict().items() if name != "id"} | {"user_id": uuid4()}
            await connection.execute(insert(tables.decision).values(other | {"model_name": f"other {number}"}))
    monkeypatch.setattr(status, "MOST", 1)
    text, lines = (await got(bench, "/")).text, (await ask(bench, {"command": "status"}))["detail"]
    assert text.count("Held back: user") == lines.count("held back: user") == 1
    assert " and 2 more.</p>" in text
    assert "\n  and 2 more\n" in lines


async def test_whom_an_earlier_surge_held_back_is_not_told_with_this_one(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await warned(make_bench, time, IDLE_SURGE_MIN=0, IDLE_SURGE_SHARE=0.5)
    async with bench.engine.begin() as connection:
        await connection.execute(update(tables.decision).values(decided_at=START))
    (surge,) = (await got(bench, "/status")).json()["surges"]
    assert surge["held"] == []


async def test_before_its_delivery_a_warning_has_the_deadline_that_it_would_have_if_it_were_delivered_now(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await warned(make_bench, time)
    async with bench.engine.begin() as connection:
        pending = {"state": "warning_pending", "delivered_at": None}
        await connection.execute(update(tables.idle_spell).values(pending))
    time.move_to(START + timedelta(minutes=110))
    (one,) = (await got(bench, "/status")).json()["next"]
    assert one["not_before"] == (START + timedelta(minutes=125)).isoformat()
    assert "warning not delivered, due in 15 min" in (await ask(bench, {"command": "status"}))["detail"]


async def test_where_not_all_are_shown_the_nearest_are_those_of_which_the_deadline_is_shown(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await warned(make_bench, time)
    (row,) = await bench.rows(tables.idle_spell)
    long_ago = {"id": uuid4(), "user_id": uuid4(), "not_before": START, "idle_since": row.idle_since - HOUR}
    waits = row._asdict() | long_ago | {"state": "warning_pending", "delivered_at": None}
    async with bench.engine.begin() as connection:
        await connection.execute(insert(tables.idle_spell).values(waits))
    monkeypatch.setattr(status, "MOST", 1)
    (one,) = (await got(bench, "/status")).json()["next"]
    assert (one["state"], one["not_before"]) == ("warned", (START + HOUR).isoformat())


async def test_a_replica_whose_clock_is_off_says_that_its_times_are_wrong(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=60)  # the time stands still in the past
    warning = "ages and times to come are wrong"
    assert warning not in (await got(bench, "/")).text
    await bench.scheduler.tick(Job.SAGA_POLL)
    assert (await got(bench, "/status")).json()["clock_off"] is True
    assert warning in (await got(bench, "/")).text
    assert warning in (await ask(bench, {"command": "status"}))["detail"]


async def test_the_numbers_of_a_decision_are_told_with_their_time(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await warned(make_bench, time)
    model = next(one for one in (await got(bench, "/status")).json()["models"] if one["model_name"] == "used")
    assert (model["why"][:7], model["why_at"]) == ("1.0 RPS", (START + timedelta(minutes=45)).isoformat())
    assert "neither too much nor too little (decided 03-02 10:45:00)" in (await got(bench, "/")).text


async def test_a_job_with_a_calendar_has_no_interval(make_bench: MakeBench) -> None:
    bench = await make_bench(IDLE_ENFORCE_CRON="0 9 * * mon")
    jobs = {job["name"]: job["interval_seconds"] for job in (await got(bench, "/status")).json()["jobs"]}
    assert (jobs["idle_enforce"], jobs["idle_warning"]) == (None, 60)
    assert (await got(bench, "/")).text.count("by calendar") == 1


async def test_the_page_is_read_again_unless_somebody_stops_that(make_bench: MakeBench) -> None:
    bench = await make_bench()
    usual, stopped = await got(bench, "/?page=2"), await got(bench, "/?page=2&refresh=off")
    assert usual.headers["refresh"] == "15"
    assert 'href="?page=2&amp;refresh=off"' in usual.text
    assert "refresh" not in stopped.headers
    assert 'href="?page=2"' in stopped.text


@pytest.mark.parametrize("page", ["0", "-1", "x", "1.5", "1000000", ""])
async def test_a_wrong_page_is_named(make_bench: MakeBench, page: str) -> None:
    answer = await got(await make_bench(), f"/status?page={page}")
    assert answer.status_code == 422
    assert "is not a whole number from 1 to 999999" in answer.text


async def test_an_empty_service_has_a_page(make_bench: MakeBench) -> None:
    bench = await make_bench()
    text = (await got(bench, "/")).text
    assert "Nobody: every booked model is used" in text
    assert text.count('<span class="bad">never</span>') == len(bench.platform.metrics_urls)


async def test_a_metrics_page_that_was_never_read_is_told(make_bench: MakeBench, platform: Platform) -> None:
    never = f"http://127.0.0.1:{free_port()}/metrics"
    bench = await make_bench(ENTRYPOINT_METRICS_URLS=",".join([*platform.metrics_urls, never]))
    await bench.run(Job.RPS_CHECK)
    found = (await got(bench, "/status")).json()["targets"]
    assert {one["target"] for one in found} == {never, *platform.metrics_urls}
    assert {one["target"] for one in found if one["age_seconds"] is None} == {never}
    assert (await got(bench, "/")).text.count('<span class="bad">never</span>') == 1
    assert f"  {never}: never read" in (await ask(bench, {"command": "status"}))["detail"].splitlines()


async def test_two_thousand_models_are_paged(make_bench: MakeBench) -> None:
    bench = await make_bench()
    rows = [
        {"model_id": uuid4(), "model_name": f"m{number:04}", "replicas": 2, "first_seen_at": START}
        for number in range(2000)
    ]
    async with bench.engine.begin() as connection:
        await connection.execute(insert(tables.scaling_state), rows)
    await got(bench, "/")  # compiles the template and the statements
    began = process_time()
    answer = await got(bench, "/?page=3")
    spent = process_time() - began
    print(f"\n{1000 * spent:.0f} ms of processor time for a page of 2000 models")
    assert spent < 0.5  # the bar of 0.05 s is for a free machine
    assert "m0100" in answer.text
    assert "m0099" not in answer.text
    assert "Page 3 of 40" in answer.text


async def test_a_person_gets_the_status_of_a_database_that_is_too_slow_for_a_probe(
    services: Services, make_bench: MakeBench
) -> None:
    bench = await make_bench(HEALTH_TIMEOUT_SECONDS=0.05)
    other = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
    async with other.transaction():
        await other.execute(f"LOCK TABLE {bench.settings.database_schema}.idle_spell IN ACCESS EXCLUSIVE MODE")
        asked = asyncio.ensure_future(got(bench, "/status"))
        done, _ = await asyncio.wait({asked}, timeout=0.3)
        assert not done
    assert (await asked).status_code == 200
    await other.close()
