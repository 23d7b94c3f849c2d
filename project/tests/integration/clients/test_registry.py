"""The registry's list: read in pages side by side, and returned whole or as incomplete, never as less than it is."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from dev.fake_platform.platform import Fault, Platform
from limiter.clients import flaws
from limiter.clients.errors import ContractBroken, Rejected, ServiceError, Unavailable
from limiter.clients.registry import Registry
from limiter.domain.fleet import ServedModel
from limiter.domain.shard import Shard
from limiter.telemetry import Telemetry
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import Crowd, counted, edited


def grow(platform: Platform, models: int) -> None:
    for number in range(models):
        platform.add_model(f"Model/{number % 40}", replicas=1 + number % 3, id=UUID(int=number + 1))


def asked(platform: Platform) -> list[tuple[int, int]]:
    return sorted((int(request.query["offset"]), int(request.query["limit"])) for request in platform.history)


@pytest.mark.parametrize(
    ("models", "offsets"),
    [(0, [0]), (1, [0]), (99, [0]), (100, [0]), (101, [0, 100]), (200, [0, 100]), (250, [0, 100, 200])],
)
async def test_every_page_is_read_once(
    platform: Platform, make_service: MakeService, models: int, offsets: list[int]
) -> None:
    grow(platform, models)
    fleet = await Registry(make_service("registry"), 100).running()
    assert asked(platform) == [(offset, 100) for offset in offsets]
    expected = {ServedModel(model.id, model.name, model.replicas) for model in platform.models}
    assert set(fleet.models) == expected
    assert len(fleet.models) == models
    assert fleet.complete


async def test_pages_are_read_side_by_side_but_not_too_many(platform: Platform, make_service: MakeService) -> None:
    grow(platform, 100)
    crowd = Crowd()
    platform.fault("registry", crowd.fault())
    fleet = await Registry(make_service("registry", concurrency=4), 5).running()
    assert crowd.peak == 4
    assert len(fleet.models) == 100
    assert asked(platform) == [(offset, 5) for offset in range(0, 100, 5)]


@pytest.mark.parametrize("status", ["CREATED", "DOWNLOADING", "DOWNLOADED", "STARTING", "STOPPING", "DELETED", "NEW"])
async def test_only_running_models_are_returned(platform: Platform, make_service: MakeService, status: str) -> None:
    running = platform.add_model("m")
    platform.add_model("n", status=status)
    fleet = await Registry(make_service("registry"), 100).running()
    assert [model.id for model in fleet.models] == [running.id]
    assert fleet.complete


async def test_a_deleted_model_is_not_running(platform: Platform, make_service: MakeService) -> None:
    platform.add_model("m").deleted = True
    fleet = await Registry(make_service("registry"), 100).running()
    assert fleet.models == ()
    assert fleet.complete


def lacking(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda entry: {name: value for name, value in entry.items() if name != key}


def having(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda entry: entry | changes


NAMELESS = [  # entries without a usable id
    lacking("id"),
    having(id="not-a-uuid"),
    having(id=None),
    lambda entry: None,
    lambda entry: "a model",
    lambda entry: [entry],
]
NAMED = [  # entries that cannot be understood, but whose id can
    lacking("name"),
    lacking("status"),
    lacking("deleted"),
    lacking("instance"),
    having(name=""),
    having(name=7),
    having(status=None),
    having(instance=None),
    having(instance={}),
    having(instance={"replicas": -1}),
    having(instance={"replicas": 1.5}),
    having(instance={"replicas": None}),
]


@pytest.mark.parametrize(("spoil", "named"), [(one, False) for one in NAMELESS] + [(one, True) for one in NAMED])
async def test_an_entry_that_does_not_fit_is_counted_and_known_by_its_id_at_most(
    platform: Platform,
    telemetry: Telemetry,
    make_service: MakeService,
    spoil: Callable[[dict[str, Any]], object],
    named: bool,
) -> None:
    grow(platform, 5)

    def change(body: dict[str, Any]) -> None:
        body["items"][2] = spoil(body["items"][2])

    platform.fault("registry", edited(change))
    fleet = await Registry(make_service("registry"), 100).running()
    assert {model.id.int for model in fleet.models} == {1, 2, 4, 5}
    assert fleet.unreadable == ({UUID(int=3)} if named else set())
    assert fleet.complete is named
    assert not fleet.is_gone(UUID(int=3))
    assert fleet.is_gone(UUID(int=99)) is named
    assert counted(telemetry, "entries_refused_total", peer="registry") == 1


@pytest.mark.parametrize(
    ("spoiled", "others"),
    [
        ({"instance": None}, False),
        ({"instance": None, "status": "STOPPING"}, True),
        ({"instance": None, "name": "of another share"}, True),
        ({"name": ""}, False),
        ({"name": "\ud800"}, False),
    ],
    ids=["ours", "not running", "of another share", "without a name", "half a surrogate pair"],
)
async def test_an_entry_that_cannot_be_read_and_is_not_minded_here_is_none_that_may_run_here(
    platform: Platform, make_service: MakeService, spoiled: dict[str, Any], others: bool
) -> None:
    shard = Shard(Shard(of=2).of_name("Model/0"), 2)
    assert not shard.minds("of another share")
    grow(platform, 1)
    platform.fault("registry", edited(lambda body: body["items"][0].update(spoiled)))
    fleet = await Registry(make_service("registry"), 100, (), shard).running()
    assert fleet.complete
    assert fleet.unreadable == (set() if others else {UUID(int=1)})


async def test_an_entry_that_stands_twice_and_is_understood_once_is_understood(
    platform: Platform, make_service: MakeService
) -> None:
    grow(platform, 3)

    def change(body: dict[str, Any]) -> None:
        body["items"][2] = body["items"][1] | {"name": ""}

    platform.fault("registry", edited(change))
    fleet = await Registry(make_service("registry"), 100).running()
    assert {model.id.int for model in fleet.models} == {1, 2}
    assert (fleet.unreadable, fleet.complete) == (frozenset(), False)


async def test_what_the_contract_may_add_later_does_no_harm(platform: Platform, make_service: MakeService) -> None:
    grow(platform, 1)

    def change(body: dict[str, Any]) -> None:
        body["items"][0] |= {"shiny": True, "hfRepoId": None, "type": "audio"}

    platform.fault("registry", edited(change))
    fleet = await Registry(make_service("registry"), 100).running()
    assert len(fleet.models) == 1
    assert fleet.complete


async def test_a_model_listed_twice_counts_once_and_another_is_missing(
    platform: Platform, make_service: MakeService
) -> None:
    grow(platform, 4)
    first: list[Any] = []

    def change(body: dict[str, Any]) -> None:
        first.append(body["items"][0])
        body["items"][0] = first[0]

    platform.fault("registry", edited(change))
    fleet = await Registry(make_service("registry"), 2).running()
    assert [model.id.int for model in fleet.models] == [1, 2, 4]
    assert not fleet.complete


@pytest.mark.parametrize("total", [3, 4], ids=["each once", "as listed"])
async def test_an_entry_that_a_page_repeats_hides_no_other(
    platform: Platform, make_service: MakeService, total: int
) -> None:
    grow(platform, 3)

    def change(body: dict[str, Any]) -> None:
        body["items"].append(body["items"][1])
        body["total"] = total

    platform.fault("registry", edited(change))
    registry = Registry(make_service("registry"), 100)
    fleet = await registry.running()
    assert [model.id.int for model in fleet.models] == [1, 2, 3]
    assert (fleet.complete, registry.flaw) == (True, None)


async def test_an_entry_that_a_full_page_repeats_may_have_pushed_another_out_of_it(
    platform: Platform, make_service: MakeService
) -> None:
    grow(platform, 3)

    def change(body: dict[str, Any]) -> None:
        body["items"] = [body["items"][0], *body["items"][:2]]

    platform.fault("registry", edited(change))
    fleet = await Registry(make_service("registry"), 3).running()
    assert not fleet.is_gone(UUID(int=3))


def shifted(body: dict[str, Any]) -> None:
    """The first model on both pages of two, as of a list into which another came in front while it was read."""
    body["items"][0]["id"] = str(UUID(int=1))


def unlike(body: dict[str, Any]) -> None:
    body["items"] = body["items"][:2]
    body["items"][1] |= {"id": body["items"][0]["id"], "name": "other"}


def nameless(body: dict[str, Any]) -> None:
    body["items"][0]["id"] = None


def unread(body: dict[str, Any]) -> None:
    body["items"][0]["instance"] = None


def fewer(body: dict[str, Any]) -> None:
    body["items"] = body["items"][:1]


ID = "00000000-0000-0000-0000-00000000000"
FLAWS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "shifted": (shifted, f"models that are listed twice, on two pages or not alike: {ID}1"),
    "unlike": (unlike, f"models that are listed twice, on two pages or not alike: {ID}1, {ID}3"),
    "nameless": (nameless, "it lists 4, of which 2 tell their id, and says that it has 4"),
    "unread": (unread, f"models that cannot be read: {ID}1, {ID}3"),
    "fewer": (fewer, "pages of 1 where 2 were asked for: REGISTRY_PAGE_SIZE is more than it serves"),
}


@pytest.mark.parametrize("case", FLAWS)
async def test_a_list_that_stays_wrong_raises_the_alarm_once_and_says_why(
    platform: Platform, telemetry: Telemetry, make_service: MakeService, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, why = FLAWS[case]
    monkeypatch.setattr(flaws, "monotonic", count(0, 15).__next__)
    grow(platform, 4)
    registry = Registry(make_service("registry"), 2)
    fault = platform.fault("registry", edited(change))
    alarms = []
    for _ in range(5):
        await registry.running()
        alarms.append(counted(telemetry, "critical_errors_total", reason="registry_contract_broken"))
    assert (alarms, registry.flaw) == ([0, 0, 1, 1, 1], why)
    platform.end_fault(fault)
    await registry.running()
    assert registry.flaw is None


async def test_readings_of_one_moment_raise_no_alarm(
    platform: Platform, telemetry: Telemetry, make_service: MakeService
) -> None:
    """Jobs that are due together read one list side by side, which changes meanwhile for all of them."""
    grow(platform, 4)
    registry = Registry(make_service("registry"), 2)
    platform.fault("registry", edited(fewer))
    await asyncio.gather(*(registry.running() for _ in range(4)))
    assert registry.flaw is not None
    assert counted(telemetry, "critical_errors_total", reason="registry_contract_broken") == 0


async def test_a_list_that_is_wrong_now_and_then_raises_no_alarm(
    platform: Platform, telemetry: Telemetry, make_service: MakeService
) -> None:
    grow(platform, 4)
    registry = Registry(make_service("registry"), 2)
    for _ in range(3):
        fault = platform.fault("registry", edited(fewer))
        await registry.running()
        await registry.running()
        platform.end_fault(fault)
        await registry.running()
    assert counted(telemetry, "critical_errors_total", reason="registry_contract_broken") == 0


@pytest.mark.parametrize("total", [3, 6])
async def test_another_number_than_was_announced_is_not_complete(
    platform: Platform, make_service: MakeService, total: int
) -> None:
    grow(platform, 5)
    platform.fault("registry", edited(lambda body: body | {"total": total}))
    fleet = await Registry(make_service("registry"), 100).running()
    assert len(fleet.models) == 5
    assert not fleet.complete


async def test_a_server_with_smaller_pages_than_asked_for_is_not_complete(
    platform: Platform, make_service: MakeService
) -> None:
    grow(platform, 40)
    platform.fault("registry", edited(lambda body: body | {"items": body["items"][:5]}))
    fleet = await Registry(make_service("registry"), 10).running()
    assert len(fleet.models) == 20
    assert not fleet.complete


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.status(503), Unavailable), (Fault.status(422), Rejected), (Fault.garbage(), ContractBroken)],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
@pytest.mark.parametrize("page", [0, 2])
async def test_a_page_that_cannot_be_read_is_an_error_not_a_smaller_fleet(
    platform: Platform, make_service: MakeService, page: int, fault: Fault, error: type[ServiceError]
) -> None:
    grow(platform, 5)
    registry = Registry(make_service("registry", concurrency=1), 2)
    platform.fault("registry", edited(lambda body: None), times=page)
    platform.fault("registry", fault)
    with pytest.raises(error) as caught:
        await registry.running()
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"items": [], "total": -1},
        {"items": [], "total": None},
        {"items": None, "total": 0},
        {"items": {}, "total": 0},
        {"total": 3},
        {"items": []},
    ],
)
async def test_a_page_of_another_shape_breaks_the_contract(
    platform: Platform, make_service: MakeService, body: object
) -> None:
    platform.fault("registry", Fault.json(body))
    with pytest.raises(ContractBroken, match=r"^registry: "):
        await Registry(make_service("registry"), 100).running()
    assert len(platform.history) == 1


async def test_only_the_tags_that_have_a_budget_are_kept(platform: Platform, make_service: MakeService) -> None:
    platform.add_model("m").tags = ["a100", "blue"]
    platform.add_model("n")
    fleet = await Registry(make_service("registry"), 100, {"a100", "l4"}).running()
    assert {model.name: model.tags for model in fleet.models} == {"m": {"a100"}, "n": frozenset()}
    fleet = await Registry(make_service("registry"), 100).running()
    assert {model.tags for model in fleet.models} == {frozenset()}


@pytest.mark.parametrize("tags", [None, "a100", [None], [{"id": 1}], [{"id": 1, "tag": None}]], ids=str)
async def test_tags_that_cannot_be_understood_matter_only_where_a_tag_has_a_budget(
    platform: Platform, make_service: MakeService, tags: object
) -> None:
    grow(platform, 2)
    platform.fault("registry", edited(lambda body: body["items"][1].update(tags=tags)))
    fleet = await Registry(make_service("registry"), 100, {"a100"}).running()
    assert {model.id.int for model in fleet.models} == {1}
    assert fleet.unreadable == {UUID(int=2)}
    fleet = await Registry(make_service("registry"), 100).running()
    assert {model.id.int for model in fleet.models} == {1, 2}
