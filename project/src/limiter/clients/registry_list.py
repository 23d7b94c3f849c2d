"""What the pages of the registry's list say together, and what is wrong with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from limiter.domain.fleet import Fleet, ServedModel


@dataclass(frozen=True, slots=True)
class ReadPage:
    """What one page said: the running models, the ids of all that was understood, and of what was not.

    `lists` are its entries, of which `repeated` are the same as one before.
    """

    total: int
    lists: int
    running: Sequence[ServedModel]
    understood: Sequence[UUID]  # a set of a hundred takes ten times as much memory
    refused: frozenset[UUID] = frozenset()
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class ReadList:
    """The whole list; `flaw` says why it cannot be taken for all that runs, if so."""

    fleet: Fleet
    flaw: str | None = None


def read_list(pages: Sequence[ReadPage], page_size: int) -> ReadList:
    """What the pages, of at most `page_size` entries each, say together."""
    models = {model.id: model for page in pages for model in page.running}
    understood = frozenset[UUID]().union(*(page.understood for page in pages))
    unreadable = frozenset[UUID]().union(*(page.refused for page in pages)) - understood
    # Short of an id, somebody else may be running, or an id stands twice and hides another. Whether the total counts an
    # entry that is repeated once or twice, is the registry's affair; but it may have pushed another out of a full page.
    ids, repeated = len(understood) + len(unreadable), sum(page.repeated for page in pages)
    complete = pages[0].total in ((ids, ids + repeated) if pages[-1].lists < page_size else (ids,))
    fleet = Fleet(tuple(models.values()), complete, unreadable)
    if complete and not unreadable:
        return ReadList(fleet)
    return ReadList(fleet, f"models that cannot be read: {_some(unreadable)}" if complete else _short(pages, page_size))


def _short(pages: Sequence[ReadPage], page_size: int) -> str:
    """Why the list is not as long as it says."""
    first, last = pages[0], len(pages) - 1
    ids = Counter(id for page in pages for id in (*page.understood, *page.refused))
    if twice := [id for id, times in ids.items() if times > 1]:
        return f"models that are listed twice, on two pages or not alike: {_some(twice)}"
    if last and first.lists < page_size:
        return f"pages of {first.lists} where {page_size} were asked for: REGISTRY_PAGE_SIZE is more than it serves"
    lists = sum(page.lists for page in pages)
    return f"it lists {lists}, of which {len(ids)} tell their id, and says that it has {first.total}"


def _some(ids: Sequence[UUID] | frozenset[UUID]) -> str:
    shown = sorted(map(str, ids))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
