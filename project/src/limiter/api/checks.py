"""What the doctor's checks come to, each told in words."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import aio_pika

from limiter.clients.errors import ServiceError
from limiter.db.engine import DATABASE_ERRORS, SchemaMissing, describe
from limiter.domain.audit import counted
from limiter.domain.fleet import Fleet
from limiter.domain.usage import Scrape, ScrapedPage

OK = "ok"


class CheckResult(NamedTuple):
    """What was looked at, whether it is as it should be, and how it is or what to do."""

    what: str
    good: bool
    text: str

    def __str__(self) -> str:
        return f"{OK if self.good else 'NOT OK':<7} {self.what}: {self.text}"


class Wrong(Exception):
    """What is found is not as it should be."""


async def checked(what: str, check: Callable[[], Awaitable[str]]) -> CheckResult:
    """Make one check, and tell in words how it went."""
    try:
        return CheckResult(what, True, await check())
    except (Wrong, SchemaMissing, ServiceError) as error:
        return CheckResult(what, False, str(error))
    except (*DATABASE_ERRORS, aio_pika.exceptions.AMQPError) as error:
        return CheckResult(what, False, describe(error))


def page_results(scrapes: Sequence[Scrape], fleet: Fleet | None) -> Iterator[CheckResult]:
    """Each metrics page, and what no page has: calls of a running model, or the gauge of requests in flight."""
    names: set[str] = set()
    for scrape in scrapes:
        good = isinstance(scrape, ScrapedPage)
        if isinstance(scrape, ScrapedPage):
            names |= set(scrape.names.values())
            text = f"calls of {counted(len(set(scrape.names.values())), 'model')}"
        else:
            text = f"{scrape.reason}: {scrape.detail}"
        yield CheckResult(f"Entrypoint {scrape.target}", good, text)
    if fleet is not None and fleet.models:
        running = fleet.replicas_by_name.keys()
        text = f"calls of {len(names & running)} of {counted(len(running), 'running name')}"
        hint = "" if names & running else ": unless nobody has called yet, ENTRYPOINT_MODEL_LABEL or the like is wrong"
        yield CheckResult("Entrypoint, all pages", not hint, text + hint)
    pages = [scrape for scrape in scrapes if isinstance(scrape, ScrapedPage)]
    for one, other in combinations(pages, 2):
        if _is_same_process(one, other):
            text = f"the process of {one.target} once more, so that each call counts twice: leave one of them out"
            yield CheckResult(f"Entrypoint {other.target}", False, text)
    if pages and all(page.lacks_in_flight for page in pages):
        text = "no page has ENTRYPOINT_INFLIGHT_METRIC: unless nobody has called yet, its name is wrong"
        yield CheckResult("Entrypoint, in flight", False, text)


def _is_same_process(one: ScrapedPage, other: ScrapedPage) -> bool:
    """Whether two pages that were read side by side must be of one process: calls may have come in between."""
    if one.started_at is None or one.started_at != other.started_at or one.counters.keys() != other.counters.keys():
        return False
    called = [series for series, calls in one.counters.items() if calls]
    return 2 * sum(one.counters[series] == other.counters[series] for series in called) > len(called)
