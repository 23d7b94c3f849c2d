"""Commands go out once, word for word as the contract says, and a saga's status is read for what it means."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from dev.fake_platform.platform import Fault, Outcome, Platform
from limiter.clients.dispatcher import Dispatcher, SagaEnd
from limiter.clients.errors import ContractBroken, NotFound, Rejected, Unavailable
from limiter.domain.command import Command, CommandKind, CommandState
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import edited

SCALE, UNINSTALL = "/dispatcher/v1/command/scale", "/dispatcher/v1/command/uninstall"


def command(kind: CommandKind, model_id: UUID, replicas: int | None = None) -> Command:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    return Command(uuid4(), model_id, "m", kind, replicas, CommandState.PLANNED, now)


@pytest.mark.parametrize("kind", [CommandKind.SCALE_UP, CommandKind.SCALE_DOWN])
@pytest.mark.parametrize("replicas", [1, 2, 1000])
async def test_a_scale_is_asked_for_as_the_contract_says(
    platform: Platform, make_service: MakeService, kind: CommandKind, replicas: int
) -> None:
    model = platform.add_model("m")
    saga = await Dispatcher(make_service("dispatcher")).send(command(kind, model.id, replicas))
    (request,) = platform.history
    assert (request.method, request.path, request.query) == ("POST", SCALE, {})
    assert request.body == {"modelId": str(model.id), "replicas": replicas}
    assert request.status == 201
    (taken,) = platform.commands
    assert (taken.model_id, taken.replicas, taken.saga_id) == (model.id, replicas, saga.id)
    assert platform.violations == []


@pytest.mark.parametrize("replicas", [0, -1, None])
async def test_a_scale_to_nothing_is_never_sent(
    platform: Platform, make_service: MakeService, replicas: int | None
) -> None:
    model = platform.add_model("m")
    with pytest.raises(Rejected, match="at least 1") as refusal:
        await Dispatcher(make_service("dispatcher")).send(command(CommandKind.SCALE_DOWN, model.id, replicas))
    assert refusal.value.undone
    assert platform.history == []


async def test_an_uninstall_is_asked_for_as_the_contract_says(platform: Platform, make_service: MakeService) -> None:
    model = platform.add_model("m")
    saga = await Dispatcher(make_service("dispatcher")).send(command(CommandKind.UNINSTALL, model.id))
    (request,) = platform.history
    assert (request.method, request.path, request.query) == ("POST", UNINSTALL, {})
    assert request.body == {"modelId": str(model.id)}
    assert saga.id == platform.commands[0].saga_id
    assert platform.models == []


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("created", SagaEnd.UNFINISHED),
        ("in_progress", SagaEnd.UNFINISHED),
        ("compensating", SagaEnd.UNFINISHED),
        ("completed", SagaEnd.COMPLETED),
        ("failed", SagaEnd.FAILED),
        ("compensated", SagaEnd.FAILED),
        ("rolled_back", SagaEnd.UNKNOWN),
        ("COMPLETED", SagaEnd.UNKNOWN),
        ("", SagaEnd.UNKNOWN),
    ],
)
async def test_a_status_is_read_for_what_it_means(
    platform: Platform, make_service: MakeService, status: str, end: SagaEnd
) -> None:
    model = platform.add_model("m")
    platform.fault("dispatcher", edited(lambda saga: saga | {"status": status}))
    dispatcher = Dispatcher(make_service("dispatcher"))
    sent = await dispatcher.send(command(CommandKind.SCALE_UP, model.id, 2))
    asked = await dispatcher.saga(sent.id)
    assert sent == asked
    assert (sent.status, sent.end) == (status, end)


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        ("completed", SagaEnd.COMPLETED),
        ("failed", SagaEnd.FAILED),
        ("compensated", SagaEnd.FAILED),
        ("stuck", SagaEnd.UNFINISHED),
        ("stuck_compensating", SagaEnd.UNFINISHED),
    ],
)
async def test_a_saga_is_followed_to_its_end(
    platform: Platform, make_service: MakeService, outcome: Outcome, end: SagaEnd
) -> None:
    model = platform.add_model("m")
    platform.next_saga(outcome, model)
    dispatcher = Dispatcher(make_service("dispatcher"))
    sent = await dispatcher.send(command(CommandKind.SCALE_UP, model.id, 2))
    assert sent.end is SagaEnd.UNFINISHED
    assert (await dispatcher.saga(sent.id)).end is end
    assert platform.history[-1].path == f"/dispatcher/v1/saga/{sent.id}"


async def test_a_forgotten_saga_is_told_from_other_refusals(platform: Platform, make_service: MakeService) -> None:
    with pytest.raises(NotFound, match="404"):
        await Dispatcher(make_service("dispatcher")).saga(uuid4())


async def test_a_command_for_a_model_that_is_gone_is_a_refusal(platform: Platform, make_service: MakeService) -> None:
    with pytest.raises(Rejected, match="404"):
        await Dispatcher(make_service("dispatcher")).send(command(CommandKind.SCALE_UP, uuid4(), 2))
    assert len(platform.history) == 1


async def test_a_lost_answer_leaves_it_open_whether_the_command_was_taken(
    platform: Platform, make_service: MakeService
) -> None:
    model = platform.add_model("m")
    platform.fault("dispatcher", Fault.lost_answer())
    with pytest.raises(Unavailable) as caught:
        await Dispatcher(make_service("dispatcher")).send(command(CommandKind.UNINSTALL, model.id))
    assert type(caught.value) is Unavailable
    assert len(platform.commands) == len(platform.history) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.empty(),
        Fault.garbage(),
        Fault.json(None),
        Fault.json([]),
        Fault.json({"id": str(UUID(int=1))}),
        Fault.json({"status": "completed"}),
        Fault.json({"id": "saga-1", "status": "created"}),
        Fault.json({"id": str(UUID(int=1)), "status": None}),
    ],
)
async def test_an_answer_that_is_no_saga_breaks_the_contract_and_is_not_asked_for_again(
    platform: Platform, make_service: MakeService, fault: Fault
) -> None:
    model = platform.add_model("m")
    dispatcher = Dispatcher(make_service("dispatcher"))
    sent = await dispatcher.send(command(CommandKind.SCALE_UP, model.id, 2))
    platform.fault("dispatcher", fault)
    with pytest.raises(ContractBroken) as caught:
        await dispatcher.send(command(CommandKind.SCALE_UP, model.id, 3))
    assert caught.value.reason == "dispatcher_contract_broken"
    with pytest.raises(ContractBroken):
        await dispatcher.saga(sent.id)
    assert len(platform.history) == 3


async def test_reading_a_saga_is_repeated(platform: Platform, make_service: MakeService) -> None:
    model = platform.add_model("m")
    dispatcher = Dispatcher(make_service("dispatcher"))
    sent = await dispatcher.send(command(CommandKind.SCALE_UP, model.id, 2))
    platform.fault("dispatcher", Fault.status(502), times=2)
    assert (await dispatcher.saga(sent.id)).id == sent.id


async def test_an_answer_about_another_saga_is_not_believed(platform: Platform, make_service: MakeService) -> None:
    dispatcher = Dispatcher(make_service("dispatcher"))
    saga = await dispatcher.send(command(CommandKind.SCALE_UP, platform.add_model("m").id, 2))
    platform.fault("dispatcher", Fault.rewrite(lambda body: body.replace(str(saga.id), str(UUID(int=7)))))
    with pytest.raises(ContractBroken, match=f"asked for saga {saga.id}, got {UUID(int=7)}"):
        await dispatcher.saga(saga.id)


@pytest.mark.parametrize("status", ["\\u0000", "x" * 301], ids=["NUL", "long"])
async def test_a_status_that_cannot_be_stored_breaks_the_contract(
    platform: Platform, make_service: MakeService, status: str
) -> None:
    dispatcher = Dispatcher(make_service("dispatcher"))
    saga = await dispatcher.send(command(CommandKind.SCALE_UP, platform.add_model("m").id, 2))
    platform.fault("dispatcher", Fault.rewrite(lambda _: f'{{"id": "{saga.id}", "status": "{status}"}}'))
    with pytest.raises(ContractBroken, match="status"):
        await dispatcher.saga(saga.id)
