"""The stand-in platform: it keeps the contracts' rules, and breaks them only where a test asks it to."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dev.fake_platform.platform import Fault, Outcome, Platform, Reservation, ServedModel, Service, User

NOON = 1_760_000_000  # an arbitrary moment, Unix seconds
GIGACHAT = "Sber/GigaChat-Max-V2"
ANNA = User(str(UUID(int=1)), "anna")
BORIS = User(str(UUID(int=2)), "boris")

FIND = "/registry/v2/models/running/find-by"
SCALE = "/dispatcher/v1/command/scale"
UNINSTALL = "/dispatcher/v1/command/uninstall"
RESERVATIONS = "/booking/api/v1/reservations"


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def platform(clock: Clock) -> AsyncIterator[Platform]:
    async with Platform(clock=clock, saga_seconds=10) as platform:
        yield platform


@pytest.fixture
async def http(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False, timeout=5) as client:
        yield client


@pytest.fixture
def model(platform: Platform) -> ServedModel:
    return platform.add_model(GIGACHAT, replicas=2)


@pytest.fixture
def reservation(platform: Platform) -> Reservation:
    return platform.add_reservation(*ANNA, GIGACHAT, [(NOON, NOON + 60), (NOON + 60, NOON + 120)])


def bearer(platform: Platform) -> dict[str, str]:
    return {"Authorization": f"Bearer {platform.token}"}


def complaint(response: httpx.Response) -> str:
    """The place that a validation error names."""
    assert response.status_code == 422
    (problem,) = response.json()["detail"]
    assert problem.keys() >= {"loc", "msg", "type"}
    return str(problem["loc"][-1])


async def scale(http: httpx.AsyncClient, model: ServedModel, replicas: object) -> httpx.Response:
    return await http.post(SCALE, json={"modelId": str(model.id), "replicas": replicas})


async def saga_status(http: httpx.AsyncClient, started: httpx.Response) -> str:
    answer = await http.get(f"/dispatcher/v1/saga/{started.json()['id']}")
    assert answer.status_code == 200
    return str(answer.json()["status"])


async def calls(http: httpx.AsyncClient, process: int = 0, name: str = GIGACHAT) -> float | None:
    """The model's counter on one page, None when there is no series."""
    return (await counters(http, process)).get(name)


async def counters(http: httpx.AsyncClient, process: int = 0) -> dict[str, float]:
    response = await http.get(f"/entrypoint/{process}/metrics")
    samples = [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]
    return {sample.labels["model_name"]: sample.value for sample in samples if sample.name == "model_calls_total"}


async def found(http: httpx.AsyncClient, **query: str | int) -> list[str]:
    """Ids of the reservations that the query finds."""
    response = await http.get(RESERVATIONS, params=query)
    assert response.status_code == 200
    return [item["id"] for item in response.json()["items"]]


class TestRegistry:
    async def test_a_model_carries_every_field_of_the_contract(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        model = platform.add_model(GIGACHAT, replicas=3, owner_id="team-a")
        model.tags = ["chat"]
        answer = (await http.get(FIND)).json()
        (item,) = answer.pop("items")
        assert answer == {"total": 1, "limit": 50, "offset": 0}
        required = "name type id status endpoints instance tags storage configuration deleted"
        assert item.keys() == {*required.split(), "hfRepoId"}
        assert (item["id"], item["name"], item["status"], item["type"]) == (str(model.id), GIGACHAT, "RUNNING", "llm")
        assert item["instance"].keys() == {"id", "replicas", "ownerId", "address"}
        assert (item["instance"]["replicas"], item["instance"]["ownerId"]) == (3, "team-a")
        assert item["storage"].keys() == {"id", "uri", "type", "revision", "artifactId"}
        assert item["tags"] == [{"id": 1, "tag": "chat"}]

    async def test_pages_are_cut_by_offset_and_limit_and_total_counts_all(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        for number in range(101):
            platform.add_model(f"model-{number}")
        first = (await http.get(FIND, params={"limit": 100})).json()
        last = (await http.get(FIND, params={"limit": 100, "offset": 100})).json()
        assert (len(first["items"]), first["total"]) == (100, 101)
        assert [item["name"] for item in last["items"]] == ["model-100"]

    @pytest.mark.parametrize(
        ("name", "value"), [("limit", "101"), ("limit", "0"), ("limit", "many"), ("limit", ""), ("offset", "-1")]
    )
    async def test_a_page_outside_the_limits_is_refused(self, http: httpx.AsyncClient, name: str, value: str) -> None:
        assert complaint(await http.get(FIND, params={name: value})) == name

    async def test_what_is_changed_or_removed_shows_at_once(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        other = platform.add_model("other", id=str(UUID(int=7)), status="STARTING")
        model.replicas, model.deleted = 5, True
        first, second = (await http.get(FIND)).json()["items"]
        assert (first["instance"]["replicas"], first["deleted"]) == (5, True)
        assert (second["id"], second["status"]) == (str(UUID(int=7)), "STARTING")
        platform.remove_model(model)
        assert platform.models == [other]
        assert (await http.get(FIND)).json()["total"] == 1


class TestDispatcher:
    async def test_a_scale_answers_201_with_a_saga_of_the_contract(
        self, http: httpx.AsyncClient, model: ServedModel
    ) -> None:
        response = await scale(http, model, 4)
        saga = response.json()
        assert response.status_code == 201
        assert saga.keys() == {"modelId", "id", "type", "status", "current_step", "steps", "createdAt", "updatedAt"}
        assert (saga["modelId"], saga["type"], saga["status"]) == (str(model.id), "upscale", "created")
        assert saga["steps"][0].keys() == {"id", "name", "status", "createdAt", "updatedAt"}
        assert datetime.fromisoformat(saga["createdAt"]).timestamp() == NOON

    async def test_replicas_change_only_when_the_saga_completes(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        started = await scale(http, model, 1)
        assert started.json()["type"] == "downscale"
        course = []
        for clock.now in (NOON, NOON + 5, NOON + 9.99, NOON + 10):
            course.append((await saga_status(http, started), platform.models[0].replicas))
        assert course == [("created", 2), ("in_progress", 2), ("in_progress", 2), ("completed", 1)]

    async def test_a_completed_uninstall_removes_the_model_and_its_traffic(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        platform.set_rate(GIGACHAT, 2)
        started = await http.post(UNINSTALL, json={"modelId": str(model.id)})
        assert (started.status_code, started.json()["type"]) == (201, "uninstall")
        assert platform.models == [model]
        clock.now += 100
        assert await saga_status(http, started) == "completed"
        assert platform.models == []
        assert await calls(http) == 10, "the saga ended after 10 s, and 1 call/s went through this process"

    @pytest.mark.parametrize("replicas", [0, -1, 1.5, "2", True, None])
    async def test_replicas_must_be_a_whole_number_above_zero(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel, replicas: object
    ) -> None:
        assert complaint(await scale(http, model, replicas)) == "replicas"
        assert platform.commands == []
        assert len(platform.violations) == 1

    @pytest.mark.parametrize("content", ["{}", '{"modelId": "x", "replicas": 1}', '{"modelId": 7}'])
    async def test_the_model_must_be_a_uuid(self, http: httpx.AsyncClient, content: str) -> None:
        assert complaint(await http.post(SCALE, content=content)) == "modelId"
        assert complaint(await http.post(UNINSTALL, content=content)) == "modelId"

    @pytest.mark.parametrize("content", ["", "not json", "[]"])
    async def test_the_body_must_be_an_object(self, http: httpx.AsyncClient, content: str) -> None:
        assert complaint(await http.post(SCALE, content=content)) == "body"

    async def test_what_it_does_not_know_is_404(self, http: httpx.AsyncClient, platform: Platform) -> None:
        unknown = str(uuid4())
        assert (await http.post(SCALE, json={"modelId": unknown, "replicas": 1})).status_code == 404
        assert (await http.post(UNINSTALL, json={"modelId": unknown})).status_code == 404
        assert (await http.get(f"/dispatcher/v1/saga/{unknown}")).status_code == 404
        assert complaint(await http.get("/dispatcher/v1/saga/not-a-uuid")) == "saga_id"
        assert platform.violations == []

    async def test_a_forgotten_saga_is_404_and_does_nothing(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        started = (await scale(http, model, 4)).json()
        del platform.sagas[UUID(started["id"])]
        clock.now += 10
        assert (await http.get(f"/dispatcher/v1/saga/{started['id']}")).status_code == 404
        assert platform.models[0].replicas == 2

    async def test_a_steered_saga_ends_as_steered_and_changes_nothing(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        courses: dict[Outcome, list[str]] = {}
        outcomes: tuple[Outcome, ...] = ("failed", "compensated", "stuck", "stuck_compensating")
        for outcome in outcomes:
            platform.next_saga(outcome, model)
            begin = clock.now
            started = await scale(http, model, 4)
            courses[outcome] = []
            for clock.now in (begin + 2, begin + 7, begin + 1000):
                courses[outcome].append(await saga_status(http, started))
        assert courses == {
            "failed": ["in_progress", "in_progress", "failed"],
            "compensated": ["in_progress", "compensating", "compensated"],
            "stuck": ["in_progress", "in_progress", "in_progress"],
            "stuck_compensating": ["in_progress", "compensating", "compensating"],
        }
        assert platform.models[0].replicas == 2

    async def test_steering_one_model_leaves_the_others_alone(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        other = platform.add_model("other")
        platform.next_saga("failed", model)
        sagas = [await scale(http, each, 4) for each in (other, model)]
        platform.next_saga("failed")
        sagas.append(await scale(http, other, 4))
        sagas.append(await scale(http, other, 4))
        clock.now += 10
        statuses = [await saga_status(http, saga) for saga in sagas]
        assert statuses == ["completed", "failed", "failed", "completed"]

    async def test_a_stuck_saga_ends_when_it_is_let_go(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        platform.next_saga("stuck")
        started = await scale(http, model, 4)
        clock.now += 1000
        assert await saga_status(http, started) == "in_progress"
        platform.sagas[UUID(started.json()["id"])].outcome = "completed"
        assert platform.models[0].replicas == 4

    async def test_a_command_during_an_unfinished_saga_is_accepted_and_noted_as_a_violation(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        await scale(http, model, 3)
        await scale(http, platform.add_model("other"), 3)
        assert platform.violations == [], "another model's saga does not matter"
        clock.now += 9
        assert (await scale(http, model, 4)).status_code == 201
        (violation,) = platform.violations
        assert f"scale of {GIGACHAT}" in violation
        assert "was in_progress" in violation
        clock.now += 10
        await scale(http, model, 5)
        assert len(platform.violations) == 1, "both sagas are over by then"

    async def test_commands_list_what_was_accepted(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        await scale(http, model, 0)
        await scale(http, model, 4)
        clock.now += 10
        await http.post(UNINSTALL, json={"modelId": str(model.id)})
        shown = [(command.at, command.kind, command.model_name, command.replicas) for command in platform.commands]
        assert shown == [(NOON, "scale", GIGACHAT, 4), (NOON + 10, "uninstall", GIGACHAT, None)]


class TestBooking:
    async def test_a_reservation_carries_every_field_and_unix_seconds(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        start, end = datetime.fromtimestamp(NOON, UTC), NOON + 60.5
        made = platform.add_reservation(*ANNA, GIGACHAT, [(start, end)], model_id=UUID(int=9))
        listed = (await http.get(RESERVATIONS)).json()
        (item,) = listed.pop("items")
        assert listed == {"total": 1, "page": 1, "page_size": 20}
        assert item == {
            "id": made.id,
            "user": {"id": ANNA.id, "name": "anna"},
            "model_name": GIGACHAT,
            "config_id": None,
            "model_id": str(UUID(int=9)),
            "slots": [{"id": made.slots[0].id, "start": NOON, "end": NOON + 60}],
        }
        assert (await http.get(f"{RESERVATIONS}/{made.id}")).json() == item

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("page", "0"),
            ("page_size", "0"),
            ("page_size", "1001"),
            ("min_end_time", "2026-01-01"),
            ("sort_order", "up"),
            ("sort_by", "colour"),
        ],
    )
    async def test_a_wrong_query_is_refused(self, http: httpx.AsyncClient, name: str, value: str) -> None:
        assert complaint(await http.get(RESERVATIONS, params={name: value})) == name

    async def test_filters_compare_first_start_and_last_end_borders_included(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        early = platform.add_reservation(*ANNA, GIGACHAT, [(100, 200), (300, 400)]).id
        late = platform.add_reservation(*BORIS, "other", [(300, 500)]).id
        assert await found(http, min_start_time=101) == [late]
        assert await found(http, min_start_time=100, max_start_time=299) == [early]
        assert await found(http, min_end_time=400) == [early, late]
        assert await found(http, min_end_time=401) == [late]
        assert await found(http, max_end_time=400) == [early]
        assert await found(http, user_id=BORIS.id) == [late]
        assert await found(http, model_name=GIGACHAT, user_id=BORIS.id) == []

    async def test_pages_are_sorted_as_asked_and_total_counts_what_passes(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        ids = [platform.add_reservation(*ANNA, GIGACHAT, [(start, 900 - start)]).id for start in (300, 100, 200)]
        assert await found(http) == [ids[1], ids[2], ids[0]]
        assert await found(http, sort_by="end_time") == [ids[0], ids[2], ids[1]]
        assert await found(http, sort_order="desc", page_size=2) == [ids[0], ids[2]]
        assert await found(http, page_size=2, page=2) == [ids[0]]
        assert await found(http, page=9) == []
        answer = (await http.get(RESERVATIONS, params={"page_size": 1, "min_start_time": 200})).json()
        assert (answer["total"], len(answer["items"])) == (2, 1)

    @pytest.mark.parametrize(("header", "status"), [({}, 401), ({"Authorization": "Basic x"}, 401)])
    async def test_deleting_without_a_bearer_token_is_refused(
        self, http: httpx.AsyncClient, reservation: Reservation, header: dict[str, str], status: int
    ) -> None:
        one = f"{RESERVATIONS}/{reservation.id}"
        assert (await http.delete(one, headers=header)).status_code == status
        assert (await http.delete(f"{one}/slot-usage/{reservation.slots[0].id}", headers=header)).status_code == status

    async def test_a_wrong_token_is_forbidden(
        self, http: httpx.AsyncClient, platform: Platform, reservation: Reservation
    ) -> None:
        wrong = {"Authorization": "Bearer wrong"}
        assert (await http.delete(f"{RESERVATIONS}/{reservation.id}", headers=wrong)).status_code == 403
        assert platform.reservations == [reservation]

    async def test_a_reservation_is_deleted_once_and_then_gone(
        self, http: httpx.AsyncClient, platform: Platform, reservation: Reservation
    ) -> None:
        one = f"{RESERVATIONS}/{reservation.id}"
        first, second = [await http.delete(one, headers=bearer(platform)) for _ in range(2)]
        assert (first.status_code, first.content, second.status_code) == (204, b"", 404)
        assert (await http.get(one)).status_code == 404
        (deletion,) = platform.deletions
        assert (deletion.slot_id, deletion.user, len(deletion.slots)) == (None, ANNA, 2)

    async def test_a_reservation_disappears_with_its_last_slot(
        self, http: httpx.AsyncClient, platform: Platform, reservation: Reservation
    ) -> None:
        one = f"{RESERVATIONS}/{reservation.id}"
        first, last = [slot.id for slot in reservation.slots]
        steps = []
        for slot in (first, first, last):
            response = await http.delete(f"{one}/slot-usage/{slot}", headers=bearer(platform))
            steps.append((response.status_code, (await http.get(one)).status_code))
        assert steps == [(204, 200), (404, 200), (204, 404)]
        assert [deletion.slot_id for deletion in platform.deletions] == [first, last]
        assert platform.reservations == []


class TestEntrypoint:
    async def test_a_series_appears_at_the_models_first_call_in_that_process(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        assert await calls(http) is None
        assert "# TYPE model_calls_total counter" in (await http.get("/entrypoint/0/metrics")).text
        platform.call(GIGACHAT, 3, entrypoint=1)
        assert (await calls(http, 0), await calls(http, 1)) == (None, 3)

    async def test_the_page_is_text_format_0_0_4_with_other_families_on_it(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        platform.call(GIGACHAT, 1_810_390)
        response = await http.get("/entrypoint/0/metrics")
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        line = f'model_calls_total{{model_name="{GIGACHAT}",service_name="entrypoint"}} 1.81039e+06'
        assert line in response.text.splitlines()
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
        assert families.keys() >= {"python_info", "process_start_time_seconds", "model_calls_created"}
        assert families["process_start_time_seconds"].samples[0].value == NOON

    async def test_label_values_are_escaped(self, http: httpx.AsyncClient, platform: Platform) -> None:
        awkward = 'back\\slash "quote" new\nline } , = ünï'
        platform.call(awkward, 2)
        assert await counters(http) == {awkward: 2}

    async def test_a_rate_accrues_by_the_clock_over_all_processes(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        platform.set_rate(GIGACHAT, 3)
        assert await calls(http) is None, "no time has passed"
        clock.now += 10
        assert (await calls(http, 0), await calls(http, 1)) == (15, 15)
        platform.set_rate(GIGACHAT, 0)
        clock.now += 10
        assert await calls(http) == 15

    async def test_fractions_of_calls_are_carried_over(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock, model: ServedModel
    ) -> None:
        platform.set_rate(GIGACHAT, 0.2)
        counted = []
        for clock.now in (NOON + 9.9, NOON + 10, NOON + 19, NOON + 20):
            counted.append(await calls(http))
        assert counted == [None, 1, 1, 2]

    async def test_a_restart_loses_the_counters_and_moves_the_start_time(
        self, http: httpx.AsyncClient, platform: Platform, clock: Clock
    ) -> None:
        for process in (0, 1):
            platform.call(GIGACHAT, 5, entrypoint=process)
        clock.now += 100
        platform.restart_entrypoint(0)
        assert (await calls(http, 0), await calls(http, 1)) == (None, 5)
        page = (await http.get("/entrypoint/0/metrics")).text
        families = {family.name: family for family in text_string_to_metric_families(page)}
        assert families["process_start_time_seconds"].samples[0].value == NOON + 100

    async def test_the_start_time_can_be_left_off_the_pages(self, clock: Clock) -> None:
        platform = Platform(clock=clock, entrypoints=1, process_start_time=False)
        async with platform, httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(platform.metrics_urls[0])).text
            beyond = await client.get(f"{platform.url}/entrypoint/1/metrics")
        assert "process_start_time_seconds" not in page
        assert beyond.status_code == 404


class TestFaults:
    async def test_a_status_comes_as_often_as_asked_for_and_the_service_does_not_act(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        platform.fault("dispatcher", Fault.status(503), times=2)
        statuses = [(await scale(http, model, 4)).status_code for _ in range(3)]
        assert statuses == [503, 503, 201]
        assert len(platform.commands) == 1

    async def test_a_fault_meets_its_service_its_path_and_its_method_only(
        self, http: httpx.AsyncClient, platform: Platform, reservation: Reservation
    ) -> None:
        platform.fault("entrypoint", Fault.status(500), path="/entrypoint/1/")
        platform.fault("booking", Fault.status(500), method="DELETE")
        one = f"{RESERVATIONS}/{reservation.id}"
        asked = [
            await http.get("/entrypoint/0/metrics"),
            await http.get("/entrypoint/1/metrics"),
            await http.get(one),
            await http.delete(one),
            await http.get(FIND),
        ]
        assert [response.status_code for response in asked] == [200, 500, 200, 500, 200]

    async def test_faults_queue_up_and_can_be_cleared_by_service(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        platform.fault("registry", Fault.status(500), times=1)
        platform.fault("registry", Fault.status(502))
        platform.fault("booking", Fault.status(504))
        statuses = [(await http.get(FIND)).status_code for _ in range(3)]
        platform.clear_faults("registry")
        statuses += [(await http.get(FIND)).status_code, (await http.get(RESERVATIONS)).status_code]
        platform.clear_faults()
        assert [*statuses, (await http.get(RESERVATIONS)).status_code] == [500, 502, 502, 200, 504, 200]

    async def test_a_hanging_call_is_answered_when_the_fault_is_cleared(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        platform.fault("dispatcher", Fault.hang(), times=1)
        asked = asyncio.create_task(scale(http, model, 4))
        await asyncio.wait({asked}, timeout=0.1)
        assert not asked.done()
        assert platform.commands == []
        platform.clear_faults()
        assert (await asked).status_code == 201

    async def test_a_caller_that_gives_up_on_a_hanging_call_leaves_it_undone(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        platform.fault("dispatcher", Fault.hang())
        with pytest.raises(httpx.ReadTimeout):
            await http.post(SCALE, json={"modelId": str(model.id), "replicas": 4}, timeout=0.1)
        await platform.stop()  # a dropped call ends a little after its caller noticed, and before the stop
        (exchange,) = platform.history
        assert (exchange.handled, exchange.status, exchange.fault) == (None, None, "hang")
        assert platform.commands == []

    async def test_a_slow_answer_is_a_good_one(self, http: httpx.AsyncClient, platform: Platform) -> None:
        platform.fault("registry", Fault.slow(0.1))
        begin = time.monotonic()
        assert (await http.get(FIND)).status_code == 200
        assert time.monotonic() - begin >= 0.1

    async def test_a_reset_drops_the_connection_before_the_service_acts(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        platform.fault("dispatcher", Fault.reset(), times=1)
        with pytest.raises(httpx.ReadError):
            await scale(http, model, 4)
        assert platform.commands == []
        assert (await scale(http, model, 4)).status_code == 201, "the next connection is good"

    async def test_a_lost_answer_drops_the_connection_after_the_service_acted(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        platform.fault("dispatcher", Fault.lost_answer())
        with pytest.raises(httpx.ReadError):
            await scale(http, model, 4)
        await platform.stop()  # a dropped call ends a little after its caller noticed, and before the stop
        (exchange,) = platform.history
        assert (exchange.handled, exchange.status, exchange.fault) == (201, None, "lost_answer")
        assert [command.replicas for command in platform.commands] == [4]

    async def test_a_truncated_answer_ends_before_its_announced_length(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        platform.fault("entrypoint", Fault.truncated())
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await http.get("/entrypoint/0/metrics")

    @pytest.mark.parametrize(
        ("fault", "body"),
        [
            (Fault.garbage(b"\xff\x00"), b"\xff\x00"),
            (Fault.empty(), b""),
            (Fault.json({"items": None}), b'{"items": null}'),
        ],
        ids=lambda value: value.name if isinstance(value, Fault) else "",
    )
    async def test_a_spoilt_answer_keeps_its_status_and_the_command_is_carried_out(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel, fault: Fault, body: bytes
    ) -> None:
        platform.fault("dispatcher", fault)
        response = await scale(http, model, 4)
        assert (response.status_code, response.content) == (201, body)
        assert len(platform.commands) == 1

    async def test_a_page_can_be_rewritten_to_rename_the_family(
        self, http: httpx.AsyncClient, platform: Platform
    ) -> None:
        platform.call(GIGACHAT)
        platform.fault("entrypoint", Fault.rewrite(lambda page: page.replace("model_calls_total", "calls_total")))
        assert await counters(http) == {}
        platform.clear_faults()
        assert await counters(http) == {GIGACHAT: 1}

    async def test_every_fault_can_meet_a_204(
        self, http: httpx.AsyncClient, platform: Platform, reservation: Reservation
    ) -> None:
        first, last = [f"{RESERVATIONS}/{reservation.id}/slot-usage/{slot.id}" for slot in reservation.slots]
        platform.fault("booking", Fault.garbage(), times=1)
        platform.fault("booking", Fault.truncated(), times=1)
        assert (await http.delete(first, headers=bearer(platform))).status_code == 204
        with pytest.raises(httpx.ReadError):
            await http.delete(last, headers=bearer(platform))
        assert len(platform.deletions) == 2


class TestHistory:
    async def test_it_keeps_what_was_asked_and_what_was_answered(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        await http.get(FIND, params={"limit": 7}, headers=bearer(platform))
        await scale(http, model, 4)
        asked, commanded = platform.history
        assert (asked.at, asked.service, asked.method, asked.path) == (NOON, "registry", "GET", FIND)
        assert (asked.query, asked.body, asked.authorization, asked.status) == ({"limit": "7"}, None, True, 200)
        assert (commanded.service, commanded.authorization, commanded.handled) == ("dispatcher", False, 201)
        assert commanded.body == {"modelId": str(model.id), "replicas": 4}

    async def test_every_service_is_known_by_its_name(self, http: httpx.AsyncClient, platform: Platform) -> None:
        for path in (FIND, f"/dispatcher/v1/saga/{uuid4()}", RESERVATIONS, "/entrypoint/0/metrics"):
            await http.get(path)
        services: list[Service] = ["registry", "dispatcher", "booking", "entrypoint"]
        assert [exchange.service for exchange in platform.history] == services

    async def test_malformed_json_is_kept_as_no_body(self, http: httpx.AsyncClient, platform: Platform) -> None:
        await http.post(SCALE, content=b"\xff{")
        assert (platform.history[0].body, platform.history[0].status) == (None, 422)


class TestServing:
    async def test_the_environment_leads_a_replica_to_it(self, http: httpx.AsyncClient, platform: Platform) -> None:
        environment = platform.environment()
        asked = [
            environment["MODEL_REGISTRY_URL"] + "/v2/models/running/find-by",
            environment["BOOKING_SERVICE_URL"] + "/api/v1/reservations",
            *environment["ENTRYPOINT_METRICS_URLS"].split(","),
        ]
        assert [(await http.get(url)).status_code for url in asked] == [200] * 4
        assert environment["MODEL_DISPATCHER_URL"] == platform.dispatcher_url
        assert environment["BOOKING_SERVICE_TOKEN"] == platform.token

    async def test_it_leaves_the_signal_handlers_alone(self) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        async with Platform():
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    async def test_it_stops_quickly_even_while_calls_hang(self, clock: Clock) -> None:
        platform = Platform(clock=clock)
        await platform.start()
        platform.fault("registry", Fault.hang())
        async with httpx.AsyncClient(trust_env=False) as client:
            hanging = asyncio.create_task(client.get(platform.registry_url + "/v2/models/running/find-by"))
            await asyncio.wait({hanging}, timeout=0.1)
            begin = time.monotonic()
            await platform.stop()
            assert time.monotonic() - begin < 1
            assert (await hanging).status_code == 200

    async def test_stopped_it_refuses_connections_and_comes_back_at_the_same_place(
        self, http: httpx.AsyncClient, platform: Platform, model: ServedModel
    ) -> None:
        url = platform.url
        assert (await http.get(FIND)).json()["total"] == 1
        await platform.stop()
        with pytest.raises(httpx.ConnectError):
            await http.get(FIND)
        await platform.start()
        assert platform.url == url
        assert (await http.get(FIND)).json()["total"] == 1

    async def test_as_a_program_it_serves_a_fleet_with_traffic_until_sigterm(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        environment = os.environ | {"PLATFORM_PORT": port, "PYTHONPATH": os.pathsep.join(sys.path)}
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dev.fake_platform", env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert program.stdout is not None
        try:
            async with asyncio.timeout(20):
                urls = dict([(await program.stdout.readline()).decode().strip().split("=", 1) for _ in range(5)])
            await assert_furnished(urls)
        finally:
            program.terminate()
            await program.communicate()
        assert program.returncode == 0


async def assert_furnished(urls: dict[str, str]) -> None:
    """There are models, a slot that runs now, and calls."""
    async with httpx.AsyncClient(trust_env=False) as client:
        models = (await client.get(urls["MODEL_REGISTRY_URL"] + "/v2/models/running/find-by")).json()
        booked: dict[str, Any] = (await client.get(urls["BOOKING_SERVICE_URL"] + "/api/v1/reservations")).json()
        page = (await client.get(urls["ENTRYPOINT_METRICS_URLS"].split(",")[0])).text
    slots = [slot for item in booked["items"] for slot in item["slots"]]
    assert models["total"] == 3
    assert any(slot["start"] <= time.time() < slot["end"] for slot in slots)
    assert 'model_calls_total{model_name="Google/Medgemma-27b-it"' in page
