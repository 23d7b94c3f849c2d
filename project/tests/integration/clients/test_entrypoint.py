"""The metrics pages: each target speaks for itself, and what cannot be read has its reason."""

import asyncio
import gzip
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import get_ident
from typing import Any

import pytest

from dev.fake_platform.platform import Fault, Platform
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.label_sets import Family
from limiter.clients.page import PageReader
from limiter.domain.folding import fold
from limiter.domain.usage import FailedScrape, Memory, Observation, ScrapedPage, ScrapeProblem
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import history, raw_server, says

GIGACHAT = "Sber/GigaChat-Max-V2"
START = datetime(2026, 3, 2, 10, tzinfo=UTC)
MakeEntrypoint = Callable[..., Entrypoint]


@pytest.fixture
def make_entrypoint(platform: Platform, make_service: MakeService) -> MakeEntrypoint:
    """Reads these targets, or both of the platform; its clock moves a second with every page."""
    seconds = count()

    def make(
        *urls: str,
        match: Mapping[str, str] | None = None,
        gauge: str = "",
        oldest: timedelta = timedelta.max,
        **changes: Any,
    ) -> Entrypoint:
        clients = [make_service("entrypoint", url=url, **changes) for url in urls or platform.metrics_urls]
        family = Family("model_calls_total", "model_name", match or {})
        in_flight = Family(gauge, "model_name", match or {}) if gauge else None
        return Entrypoint(clients, family, lambda: START + timedelta(seconds=next(seconds)), in_flight, oldest)

    return make


def calls(page: Any) -> dict[str, float]:
    assert isinstance(page, ScrapedPage), page
    return {page.names[series]: value for series, value in page.counters.items()}


async def test_every_target_is_read(platform: Platform, make_entrypoint: MakeEntrypoint) -> None:
    platform.call(GIGACHAT, 5, entrypoint=0)
    platform.call(GIGACHAT, 7, entrypoint=1)
    platform.call('odd "name"\\, {x}\n', 2, entrypoint=1)
    entrypoint = make_entrypoint()
    pages = await entrypoint.scrape()
    assert [page.target for page in pages] == entrypoint.targets == platform.metrics_urls
    assert [calls(page) for page in pages] == [{GIGACHAT: 5}, {GIGACHAT: 7, 'odd "name"\\, {x}\n': 2}]
    assert all(isinstance(page, ScrapedPage) and page.started_at is not None for page in pages)
    assert {page.read_at for page in pages if isinstance(page, ScrapedPage)} == {START, START + timedelta(seconds=1)}


async def test_before_the_first_call_the_family_is_there_and_empty(make_entrypoint: MakeEntrypoint) -> None:
    assert [calls(page) for page in await make_entrypoint().scrape()] == [{}, {}]


async def test_a_page_is_read_beside_the_loop_while_its_series_are_new(
    platform: Platform, make_entrypoint: MakeEntrypoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.call(GIGACHAT, 5)
    in_the_loop, feed, loop = list[bool](), PageReader.feed, get_ident()

    def noted(reader: PageReader, chunk: bytes) -> None:
        in_the_loop.append(get_ident() == loop)
        feed(reader, chunk)

    monkeypatch.setattr(PageReader, "feed", noted)
    entrypoint = make_entrypoint(platform.metrics_urls[0])
    for later in (False, True):
        await entrypoint.scrape()
        assert set(in_the_loop) == {later}
        in_the_loop.clear()


def renamed(text: str) -> str:
    return text.replace("model_calls", "model_requests")


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        (Fault.status(500), ScrapeProblem.UNAVAILABLE, 2),
        (Fault.status(503), ScrapeProblem.UNAVAILABLE, 2),
        (Fault.status(404), ScrapeProblem.BROKEN, 1),
        (Fault.status(302), ScrapeProblem.BROKEN, 1),
        (Fault.hang(), ScrapeProblem.UNAVAILABLE, 2),
        (Fault.reset(), ScrapeProblem.UNAVAILABLE, 2),
        (Fault.truncated(), ScrapeProblem.UNAVAILABLE, 2),
        (Fault.empty(), ScrapeProblem.FAMILY_MISSING, 1),
        (Fault.garbage(), ScrapeProblem.BROKEN, 1),
        (Fault.garbage(b"<html>\n<body>Sorry</body>\n"), ScrapeProblem.FAMILY_MISSING, 1),
        (Fault.garbage(b"# EOF\n"), ScrapeProblem.FAMILY_MISSING, 1),
        (Fault.rewrite(renamed), ScrapeProblem.FAMILY_MISSING, 1),
        (Fault.rewrite(lambda text: text[:-3]), ScrapeProblem.BROKEN, 1),
        (Fault.rewrite(lambda text: text.replace("service_name=", "model_name=")), ScrapeProblem.BROKEN, 1),
        (Fault.rewrite(lambda text: text + 'model_calls_total{model_name="x"} many\n'), ScrapeProblem.BROKEN, 1),
        (Fault.rewrite(lambda text: text + 'model_calls_total{model_name="x"} 1\n' * 2), ScrapeProblem.BROKEN, 1),
    ],
)
async def test_a_target_that_cannot_be_read_spoils_only_its_own_reading(
    platform: Platform, make_entrypoint: MakeEntrypoint, fault: Fault, reason: ScrapeProblem, requests: int
) -> None:
    platform.call(GIGACHAT, 5, entrypoint=0)
    platform.call(GIGACHAT, 7, entrypoint=1)
    platform.fault("entrypoint", fault, path="/entrypoint/0")
    # Only a call that is never answered is to run into its timeout, also on a busy machine.
    bad, good = await make_entrypoint(timeout=0.2 if fault.name == "hang" else 5, attempts=2).scrape()
    assert isinstance(bad, FailedScrape)
    assert (bad.target, bad.reason) == (platform.metrics_urls[0], reason)
    assert bad.detail
    assert calls(good) == {GIGACHAT: 7}
    assert len([request for request in await history(platform) if "/0/" in request.path]) == requests


async def test_a_target_that_wants_to_be_left_alone_for_long_is_not_waited_for(make_entrypoint: MakeEntrypoint) -> None:
    busy = says(b"", "503 Busy", "retry-after: 3600\r\n")
    async with raw_server(busy) as server, asyncio.timeout(5):
        (page,) = await make_entrypoint(server.url, attempts=3).scrape()
    assert isinstance(page, FailedScrape)
    assert (page.reason, len(server.heads)) == (ScrapeProblem.UNAVAILABLE, 1)


async def test_a_target_that_nobody_serves_is_unavailable(platform: Platform, make_entrypoint: MakeEntrypoint) -> None:
    await platform.stop()
    reasons = [scrape.reason for scrape in await make_entrypoint().scrape() if isinstance(scrape, FailedScrape)]
    assert reasons == [ScrapeProblem.UNAVAILABLE] * 2


async def test_a_target_that_fails_for_a_moment_is_read_again(
    platform: Platform, make_entrypoint: MakeEntrypoint
) -> None:
    platform.call(GIGACHAT, 5)
    platform.fault("entrypoint", Fault.truncated(), path="/entrypoint/0", times=1)
    platform.fault("entrypoint", Fault.status(503), path="/entrypoint/0", times=1)
    assert calls((await make_entrypoint(attempts=3).scrape())[0]) == {GIGACHAT: 5}


async def test_targets_are_read_side_by_side(platform: Platform, make_entrypoint: MakeEntrypoint) -> None:
    platform.call(GIGACHAT, 5)
    platform.fault("entrypoint", Fault.hang(), path="/entrypoint/0")
    waiting, read = await make_entrypoint(timeout=0.3, attempts=1).scrape()
    assert isinstance(waiting, FailedScrape)
    assert isinstance(read, ScrapedPage)
    assert (await history(platform))[0].path == "/entrypoint/1/metrics"


async def test_plain_text_is_asked_for(make_entrypoint: MakeEntrypoint) -> None:
    async with raw_server(says(b'model_calls_total{model_name="m"} 3\n')) as server:
        (page,) = await make_entrypoint(f"{server.url}/some/metrics?of=this").scrape()
    head = server.heads[0].lower().split("\r\n")
    assert calls(page) == {"m": 3}
    assert head[0] == "get /some/metrics?of=this http/1.1"
    assert [line for line in head if line.startswith("accept:")] == ["accept: text/plain;version=0.0.4"]
    assert [line for line in head if line.startswith("accept-encoding:")] == ["accept-encoding: identity"]


async def test_a_server_that_packs_its_page_all_the_same_is_understood(make_entrypoint: MakeEntrypoint) -> None:
    packed = gzip.compress(b'model_calls_total{model_name="m"} 3\n')
    async with raw_server(says(packed, headers="content-encoding: gzip\r\n")) as server:
        (page,) = await make_entrypoint(server.url).scrape()
    assert calls(page) == {"m": 3}


async def test_only_series_with_the_match_labels_count(platform: Platform, make_entrypoint: MakeEntrypoint) -> None:
    platform.call(GIGACHAT, 5)
    other = f'model_calls_total{{model_name="{GIGACHAT}",service_name="another"}} 100\n'
    platform.fault("entrypoint", Fault.rewrite(lambda text: text + other), path="/entrypoint/0")
    pages = await make_entrypoint(match={"service_name": "entrypoint"}).scrape()
    assert calls(pages[0]) == {GIGACHAT: 5}
    pages = await make_entrypoint(match={"service_name": "third"}).scrape()
    assert calls(pages[0]) == {}


@pytest.mark.parametrize(
    ("age", "stale"),
    [
        ("30", False),
        ("31", True),
        ("31, 2", True),
        ("2, 31", False),  # RFC 9111: of several the first counts
        ("99999999999999999999999", True),
        ("-31", False),  # and what is no number of seconds is ignored
        ("31.5", False),
        ("old", False),
        ("", False),
    ],
)
async def test_a_page_older_than_allowed_by_its_age_is_stale(
    make_entrypoint: MakeEntrypoint, age: str, stale: bool
) -> None:
    page = b'model_calls_total{model_name="m"} 3\n'
    async with raw_server(says(page, headers=f"age: {age}\r\n")) as server:
        (scrape,) = await make_entrypoint(server.url, oldest=timedelta(seconds=30)).scrape()
    assert (isinstance(scrape, FailedScrape) and scrape.reason is ScrapeProblem.STALE) is stale
    if not stale:
        assert calls(scrape) == {"m": 3}


async def test_requests_in_flight_are_read_where_the_gauge_is_set(
    platform: Platform, make_entrypoint: MakeEntrypoint
) -> None:
    platform.call(GIGACHAT, 5)
    platform.set_in_flight(GIGACHAT, 2)
    platform.set_in_flight("waiting", 0)
    platform.set_in_flight("odd", -1)
    page, without = await make_entrypoint(gauge="model_requests_in_flight").scrape()
    assert isinstance(page, ScrapedPage)
    assert isinstance(without, ScrapedPage)
    assert (page.busy, set(page.unreadable.values())) == (frozenset({GIGACHAT}), {"odd"})
    assert (without.busy, without.unreadable) == (frozenset(), {})
    unset, _ = await make_entrypoint().scrape()
    assert isinstance(unset, ScrapedPage)
    assert (unset.busy, unset.unreadable) == (frozenset(), {})


# --- what the readings prove, from the wire to the memory ---


async def ticks(platform: Platform, entrypoint: Entrypoint, *between: Callable[[], object]) -> Observation:
    """Ticks 15 seconds apart, with something happening before each but the first."""
    memory, window = Memory(), timedelta(minutes=5)
    observation = fold(memory, await entrypoint.scrape(), {GIGACHAT}, START, window)
    for number, happens in enumerate(between, 1):
        happens()
        now = START + timedelta(seconds=15 * number)
        observation = fold(observation.memory, await entrypoint.scrape(), {GIGACHAT}, now, window)
    return observation


def counted_calls(observation: Observation) -> float:
    used = observation.memory.usage.get(GIGACHAT)
    return sum(sample.calls for sample in used.samples) if used else 0


async def test_calls_between_two_readings_are_proven(platform: Platform, make_entrypoint: MakeEntrypoint) -> None:
    platform.call(GIGACHAT, 1000)

    def use() -> None:
        platform.call(GIGACHAT, 3, entrypoint=0)
        platform.call(GIGACHAT, 4, entrypoint=1)

    observation = await ticks(platform, make_entrypoint(), use, use)
    assert counted_calls(observation) == 14
    assert observation.known(GIGACHAT)


async def test_equal_readings_around_a_failed_one_prove_that_nobody_called(
    platform: Platform, make_entrypoint: MakeEntrypoint
) -> None:
    platform.call(GIGACHAT, 5, entrypoint=0)
    platform.call(GIGACHAT, 5, entrypoint=1)
    observation = await ticks(
        platform, make_entrypoint(), lambda: platform.fault("entrypoint", Fault.garbage()), platform.clear_faults
    )
    assert counted_calls(observation) == 0
    assert observation.known(GIGACHAT)
    assert observation.memory.gaps == ()


async def test_a_restarted_process_leaves_a_gap(platform: Platform, make_entrypoint: MakeEntrypoint) -> None:
    platform.call(GIGACHAT, 5, entrypoint=0)
    observation = await ticks(platform, make_entrypoint(), lambda: platform.restart_entrypoint(0))
    assert [gap.target for gap in observation.memory.gaps] == [platform.metrics_urls[0]]


async def test_a_frozen_page_is_stale_until_it_moves_again(platform: Platform, make_entrypoint: MakeEntrypoint) -> None:
    platform.call(GIGACHAT, 5)
    entrypoint = make_entrypoint()
    frozen = await ticks(platform, entrypoint, lambda: platform.freeze_entrypoint(0), lambda: platform.call(GIGACHAT))
    assert not frozen.known(GIGACHAT)
    assert [problem for problem, _ in frozen.problems] == [ScrapeProblem.STALE]
    thawed = await ticks(platform, entrypoint, lambda: platform.call(GIGACHAT), lambda: platform.thaw_entrypoint(0))
    assert thawed.known(GIGACHAT)
    assert counted_calls(thawed) == 2


async def test_two_processes_behind_one_address_are_recognised(
    platform: Platform, make_entrypoint: MakeEntrypoint
) -> None:
    platform.call(GIGACHAT, 900_000, entrypoint=0)
    platform.call(GIGACHAT, 1_200_000, entrypoint=1)
    platform.balance_entrypoint(0, 1)
    url, _ = platform.metrics_urls
    observation = await ticks(platform, make_entrypoint(url), lambda: None)
    assert [problem for problem, _ in observation.problems] == [ScrapeProblem.BALANCED]
    assert counted_calls(observation) == 0
