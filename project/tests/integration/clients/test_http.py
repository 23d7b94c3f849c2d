"""Calls to an external service: sorted by what the caller does, repeated only where that is safe, bounded in time."""

import asyncio
import socket
import time as clock
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest

from dev.fake_platform.call import Answer, Call
from dev.fake_platform.platform import Fault, Platform, Service
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.errors import ContractBroken, NotAllowed, NotFound, NotSent, Rejected, ServiceError, Unavailable
from limiter.clients.http import ServiceClient
from limiter.clients.label_sets import Family
from limiter.clients.registry import Registry
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.usage import FailedScrape, ScrapeProblem
from limiter.runner.guard import LockLost
from limiter.telemetry import Telemetry
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import arrived, counted, drips, history, raw_server

LIST = "/api/v1/reservations"
SCALE = "/v1/command/scale"
SLACK = 0.5  # seconds; a busy machine is no failure


async def failure(call: Awaitable[object]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


def outcomes(telemetry: Telemetry, service: str = "booking") -> dict[str, float]:
    names = ("ok", "unreachable", "no_answer", "unavailable", "rejected", "contractbroken", "error")
    counts = {name: counted(telemetry, "http_requests_total", peer=service, outcome=name) for name in names}
    return {name: times for name, times in counts.items() if times}


@pytest.mark.parametrize(
    ("fault", "error", "outcome", "reason"),
    [
        (Fault.status(500), Unavailable, "unavailable", "booking_unavailable"),
        (Fault.status(502), Unavailable, "unavailable", "booking_unavailable"),
        (Fault.status(503), Unavailable, "unavailable", "booking_unavailable"),
        (Fault.status(408), Unavailable, "unavailable", "booking_unavailable"),
        (Fault.status(425), Unavailable, "unavailable", "booking_unavailable"),
        (Fault.status(429), Unavailable, "unavailable", "booking_unavailable"),
        (Fault.status(400), Rejected, "rejected", "booking_rejected"),
        (Fault.status(401), NotAllowed, "rejected", "booking_rejected"),
        (Fault.status(404), NotFound, "rejected", "booking_rejected"),
        (Fault.status(422), Rejected, "rejected", "booking_rejected"),
        (Fault.status(302), ContractBroken, "contractbroken", "booking_contract_broken"),
        (Fault.reset(), Unavailable, "no_answer", "booking_unavailable"),
        (Fault.lost_answer(), Unavailable, "no_answer", "booking_unavailable"),
        (Fault.truncated(), Unavailable, "no_answer", "booking_unavailable"),
        (Fault.hang(), Unavailable, "no_answer", "booking_unavailable"),
        (Fault.slow(5), Unavailable, "no_answer", "booking_unavailable"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_a_failure_is_sorted_by_what_the_caller_does(
    platform: Platform,
    telemetry: Telemetry,
    make_service: MakeService,
    fault: Fault,
    error: type[ServiceError],
    outcome: str,
    reason: str,
) -> None:
    platform.fault("booking", fault)
    timeout = 0.2 if outcome == "no_answer" else 5.0  # short only where it is waited for
    raised = await failure(make_service("booking", attempts=1, timeout=timeout).get(LIST))
    assert type(raised) is error
    assert raised.reason == reason
    assert outcomes(telemetry) == {outcome: 1}
    assert counted(telemetry, "http_request_seconds_count", peer="booking") == 1


async def test_a_refused_connection_certainly_sent_nothing(
    platform: Platform, telemetry: Telemetry, make_service: MakeService
) -> None:
    await platform.stop()
    raised = await failure(make_service("booking").get(LIST))
    assert type(raised) is NotSent
    assert raised.reason == "booking_unavailable"
    assert outcomes(telemetry) == {"unreachable": 3}


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (httpx.ConnectTimeout("slow"), NotSent),
        (httpx.PoolTimeout("full"), NotSent),
        (httpx.WriteError("gone"), Unavailable),
        (httpx.WriteTimeout(""), Unavailable),
        (httpx.ReadTimeout(""), Unavailable),
        (httpx.DecodingError("no gzip"), Unavailable),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_the_platform_cannot_break_is_sorted_too(
    make_service: MakeService, broken: httpx.RequestError, error: type[ServiceError]
) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise broken

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        raised = await failure(make_service("booking", http=http).get(LIST))
    assert type(raised) is error
    assert str(raised).partition(LIST)[2].strip(": ")  # an exception without words still says what it was


@pytest.mark.parametrize(
    "answer",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
    ids=["TLS", "SSH", "header", "length", "lengths", "chunk", "long header"],
)
async def test_what_is_no_http_is_no_answer(make_service: MakeService, telemetry: Telemetry, answer: bytes) -> None:
    async def no_http(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with raw_server(no_http) as server:
        service = make_service("booking", url=server.url)
        assert type(await failure(service.get(LIST))) is Unavailable
        page = Entrypoint([service], Family("calls_total", "model"), lambda: datetime.now(UTC))
        (scraped,) = await page.scrape()
    assert isinstance(scraped, FailedScrape)
    assert scraped.reason is ScrapeProblem.UNAVAILABLE
    assert outcomes(telemetry).keys() == {"no_answer"}


@pytest.mark.parametrize("body", [Fault.empty(), Fault.garbage(), Fault.json([])], ids=lambda fault: str(fault.name))
async def test_an_answer_that_is_not_the_contracts_is_not_asked_for_again(
    platform: Platform, make_service: MakeService, body: Fault
) -> None:
    platform.fault("registry", body)
    raised = await failure(Registry(make_service("registry"), 100).running())
    assert type(raised) is ContractBroken
    assert raised.reason == "registry_contract_broken"
    assert len(platform.history) == 1


@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_a_get_is_repeated_until_it_is_answered(
    platform: Platform, make_service: MakeService, failures: int
) -> None:
    platform.fault("booking", Fault.status(503), times=failures)
    await make_service("booking", attempts=3).get(LIST)
    assert len(platform.history) == failures + 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_a_get_is_tried_so_often_and_no_more(
    platform: Platform, make_service: MakeService, attempts: int
) -> None:
    platform.fault("booking", Fault.reset())
    await failure(make_service("booking", attempts=attempts).get(LIST))
    assert len(platform.history) == attempts


def busy(retry_after: str, status: int = 429) -> Fault:
    """It does not act, and says when it wants to be asked again."""

    async def behave(call: Call, cleared: asyncio.Event) -> None:
        await call.answer(Answer(status, [(b"retry-after", retry_after.encode())], b""))

    return Fault("busy", behave)


@pytest.mark.waits(1)
async def test_it_is_asked_again_when_it_says_that_it_may(platform: Platform, make_service: MakeService) -> None:
    platform.fault("booking", busy("1"), times=1)
    started = clock.perf_counter()
    await make_service("booking", timeout=5.0).get(LIST)
    assert clock.perf_counter() - started >= 1
    assert len(platform.history) == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_what_wants_to_be_left_alone_for_longer_than_a_call_is_not_asked_again(
    platform: Platform, make_service: MakeService, status: int
) -> None:
    services: tuple[Service, ...] = ("booking", "entrypoint")
    for service in services:
        platform.fault(service, busy("9", status))
    await failure(make_service("booking", timeout=5.0).get(LIST))
    await failure(make_service("booking", timeout=5.0).delete(f"{LIST}/r", repeat=True))
    page = make_service("entrypoint", url=platform.metrics_urls[0], timeout=5.0)
    (scraped,) = await Entrypoint([page], Family("calls_total", "model"), lambda: datetime.now(UTC)).scrape()
    assert isinstance(scraped, FailedScrape)
    assert len(platform.history) == 3


@pytest.mark.parametrize("when", ["", "soon", "-1", "1.5", "Wed, 21 Oct 2099 07:28:00 GMT", "\xb2"])
async def test_what_is_no_number_of_seconds_says_nothing(
    platform: Platform, make_service: MakeService, when: str
) -> None:
    platform.fault("booking", busy(when), times=1)
    await make_service("booking").get(LIST)
    assert len(platform.history) == 2


@pytest.mark.parametrize(
    ("fault", "undone"),
    [
        (Fault.status(425), True),
        (Fault.status(429), True),
        (Fault.status(422), True),
        (Fault.status(308), True),
        (Fault.status(303), False),
        (Fault.status(408), False),
        (Fault.status(503), False),
        (Fault.garbage(), False),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_what_says_that_nothing_was_done(
    platform: Platform, make_service: MakeService, fault: Fault, undone: bool
) -> None:
    model = platform.add_model("m")
    platform.fault("dispatcher", fault)
    command = Command(UUID(int=1), model.id, "m", CommandKind.SCALE_UP, 2, CommandState.PLANNED, datetime.now(UTC))
    assert (await failure(Dispatcher(make_service("dispatcher")).send(command))).undone is undone


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"detail": "at most 4"}', """: '{"detail": "at most 4"}'"""),
        (b"no\x00\n\x1b[31m\xff", ": 'no\\x00\\n\\x1b[31m\ufffd'"),
        (b"x" * 10**6, ": '" + "x" * 200 + "'"),
        (b" ", ""),
    ],
    ids=["detail", "control characters", "long", "empty"],
)
async def test_a_refusal_is_told_with_what_it_says(
    platform: Platform, make_service: MakeService, body: bytes, why: str
) -> None:
    async def behave(call: Call, cleared: asyncio.Event) -> None:
        await call.answer(Answer(422, [], body))

    platform.fault("booking", Fault("refusal", behave))
    raised = await failure(make_service("booking").get(LIST))
    assert str(raised).partition("HTTP 422")[2] == why


@pytest.mark.parametrize("before", [0, 175], ids=["", "where it is cut"])
async def test_a_refusal_that_says_our_token_is_told_without_it(
    platform: Platform, make_service: MakeService, before: int
) -> None:
    async def behave(call: Call, cleared: asyncio.Event) -> None:
        given = dict(call.scope["headers"])[b"authorization"]
        await call.answer(Answer(401, [], b"x" * before + b"not valid: " + given))

    platform.fault("booking", Fault("echo", behave))
    raised = await failure(make_service("booking", token="pl4nt3d-token").get(LIST))
    assert str(raised).partition("HTTP 401")[2] == f": '{('x' * before + 'not valid: Bearer ***')[:200]}'"


async def test_a_refusal_is_not_tried_again(platform: Platform, make_service: MakeService) -> None:
    platform.fault("booking", Fault.status(403))
    await failure(make_service("booking").get(LIST))
    assert len(platform.history) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.lost_answer(), Fault.reset(), Fault.hang(), Fault.truncated(), Fault.status(500), Fault.status(429)],
    ids=lambda fault: str(fault.name),
)
async def test_a_post_that_may_have_been_taken_is_not_repeated(
    platform: Platform, make_service: MakeService, fault: Fault
) -> None:
    model = platform.add_model("m")
    platform.fault("dispatcher", fault)
    client = make_service("dispatcher", timeout=0.2)
    raised = await failure(client.post(SCALE, {"modelId": str(model.id), "replicas": 2}))
    assert type(raised) is Unavailable
    assert len(await history(platform)) == 1
    assert len(platform.commands) == (1 if fault.name in ("lost_answer", "truncated") else 0)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_what_changes_something_meets_no_connection_that_the_server_is_about_to_close(
    make_service: MakeService, method: str
) -> None:
    """A server may close one that is idle at any time, without a word, right as the next request comes on it."""
    async with raw_server(drips(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"", 60)) as server:
        service = make_service("dispatcher", url=server.url)
        for _ in range(2):
            await (service.post(SCALE, {}) if method == "POST" else service.delete(LIST, repeat=False))
    assert len(server.heads) == 2


async def test_a_post_is_repeated_while_nobody_can_be_reached(
    platform: Platform, telemetry: Telemetry, make_service: MakeService
) -> None:
    model = platform.add_model("m")
    await platform.stop()
    client = make_service("dispatcher", attempts=15)
    sending = asyncio.create_task(client.post(SCALE, {"modelId": str(model.id), "replicas": 2}))
    while outcomes(telemetry, "dispatcher").get("unreachable", 0) < 2:  # noqa: ASYNC110 - a counter has no event
        await asyncio.sleep(0.001)
    await platform.start()
    await sending
    assert len(platform.commands) == 1


async def test_a_post_that_got_no_connection_in_time_was_not_sent(
    make_service: MakeService, telemetry: Telemetry
) -> None:
    """As to a host that drops every packet: Linux does so where more wait to be accepted than may."""
    with ExitStack() as stack:
        host = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(host.getsockname())
        url = f"http://127.0.0.1:{host.getsockname()[1]}"
        raised = await failure(make_service("dispatcher", url=url, attempts=2, timeout=0.1).post(SCALE, {}))
    assert type(raised) is NotSent
    assert str(raised).endswith(": no connection")
    assert outcomes(telemetry, "dispatcher") == {"unreachable": 2}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_what_may_not_be_sent_any_more_after_a_pause_is_not_repeated(
    platform: Platform, telemetry: Telemetry, make_service: MakeService, method: str
) -> None:
    """As of a process that was frozen in the pause, for so long that another has its job."""

    def lost() -> None:
        if outcomes(telemetry, "dispatcher"):
            raise LockLost("no heartbeat for 20 s")

    await platform.stop()
    client = make_service("dispatcher")
    with pytest.raises(LockLost):
        await (client.post(SCALE, {}, lost) if method == "POST" else client.delete(LIST, repeat=True, check=lost))
    assert outcomes(telemetry, "dispatcher") == {"unreachable": 1}


async def test_a_post_to_nobody_ends_after_its_attempts(
    platform: Platform, telemetry: Telemetry, make_service: MakeService
) -> None:
    await platform.stop()
    raised = await failure(make_service("dispatcher", attempts=4).post(SCALE, {}))
    assert type(raised) is NotSent
    assert outcomes(telemetry, "dispatcher") == {"unreachable": 4}


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"x-more: header\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["silence", "headers", "body", "chunks"],
)
async def test_the_time_limit_is_for_the_whole_call_however_the_answer_drips(
    make_service: MakeService, head: bytes, drop: bytes
) -> None:
    async with raw_server(drips(head, drop if head else b"", 0.02)) as server:
        started = clock.perf_counter()
        raised = await failure(make_service("booking", url=server.url, attempts=2, timeout=0.2).get(LIST))
        assert type(raised) is Unavailable
        assert 0.4 <= clock.perf_counter() - started < 0.4 + SLACK


async def test_calls_are_counted_by_service_and_outcome(
    platform: Platform, telemetry: Telemetry, make_service: MakeService
) -> None:
    platform.fault("booking", Fault.status(503), times=1)
    await make_service("booking").get(LIST)
    await failure(make_service("dispatcher").get(f"/v1/saga/{UUID(int=5)}"))
    assert outcomes(telemetry) == {"unavailable": 1, "ok": 1}
    assert outcomes(telemetry, "dispatcher") == {"rejected": 1}
    assert counted(telemetry, "http_request_seconds_count", peer="booking") == 2


async def test_a_cancelled_call_is_neither_swallowed_nor_repeated(
    platform: Platform, make_service: MakeService
) -> None:
    platform.fault("booking", Fault.hang())
    calling = asyncio.create_task(make_service("booking").get(LIST))
    await arrived()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert len(await history(platform)) == 1


Ask = Callable[[ServiceClient], Awaitable[object]]


@pytest.mark.parametrize(
    "ask",
    [lambda client: client.post(SCALE, {}), lambda client: client.delete(f"{LIST}/r", repeat=True)],
    ids=["POST", "DELETE"],
)
async def test_one_that_may_only_read_changes_nothing(platform: Platform, make_service: MakeService, ask: Ask) -> None:
    client = make_service("booking", read_only=True)
    assert type(await failure(ask(client))) is Rejected
    assert platform.history == []
    await client.get(LIST)


async def test_every_call_has_an_id_of_its_own_and_a_failure_names_it(
    platform: Platform, make_service: MakeService
) -> None:
    pages = [make_service("entrypoint", url=url) for url in platform.metrics_urls]
    booking = make_service("booking", attempts=2)
    await Entrypoint(pages, Family("model_calls_total", "model_name"), lambda: datetime.now(UTC)).scrape()
    platform.fault("booking", Fault.status(503), times=2)
    raised = await failure(booking.get(LIST))
    await booking.delete(f"{LIST}/r", repeat=False)
    ids = [exchange.request_id for exchange in await history(platform)]
    assert len(set(ids) - {None}) == len(ids) == 5
    assert f"GET {LIST} (request {ids[3]}): HTTP 503" in str(raised)
