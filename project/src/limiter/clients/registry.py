"""ModelRegistry: the running models."""

from collections.abc import Collection
from functools import partial
from uuid import UUID

from loguru import logger
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from limiter.clients.concurrency import gathered
from limiter.clients.decoding import Storable, decode, describe_validation
from limiter.clients.http import ServiceClient
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.shard import EVERY_MODEL, Shard

MOST = 1_000_000  # models, or replicas of one: an answer that tells of more is broken, not large
PATH = "/v2/models/running/find-by"


class _Instance(BaseModel):
    replicas: int = Field(ge=0, le=MOST)


class _Entry(BaseModel):
    id: UUID
    name: Storable = Field(min_length=1)
    status: str
    deleted: bool
    instance: _Instance


class _Tag(BaseModel):
    tag: Storable


class _TaggedEntry(_Entry):
    tags: list[_Tag]


class _Named(BaseModel):
    id: UUID


class _Page(BaseModel):
    items: list[object]
    total: int = Field(ge=0, le=MOST)


_PAGE = TypeAdapter(_Page)


class Registry:
    """Reads the running models, pages of at most 100 fetched side by side."""

    def __init__(
        self, service: ServiceClient, page_size: int, tags: Collection[str] = (), shard: Shard = EVERY_MODEL
    ) -> None:
        """Of the models' tags only these are kept; without any, tags are not looked at."""
        self._service = service
        self._page_size = page_size
        self._tags = frozenset(tags)
        self._shard = shard

    async def running(self) -> Fleet:
        """Every running model that is minded here.

        An entry that is not as the contract says is counted, and known by its id at most. Raises ServiceError.
        """
        first = await self._page(0)
        offsets = range(self._page_size, first.total, self._page_size)
        rest = await gathered([partial(self._page, offset) for offset in offsets], self._service.concurrency)
        items = [item for page in (first, *rest) for item in page.items]
        read = [(item, self._entry(item)) for item in items]
        entries = [entry for _, entry in read if entry is not None]
        running = [entry for entry in entries if self._counts(entry)]
        models = {
            entry.id: ServedModel(entry.id, entry.name, entry.instance.replicas, self._tags_of(entry))
            for entry in running
        }
        understood = {entry.id for entry in entries}
        named = [_id(item) for item, entry in read if entry is None]
        unreadable = frozenset(id for id in named if id is not None) - understood
        # Short of an id, somebody else may be running, or an id stands twice and hides another.
        complete = len(understood) + len(unreadable) == first.total
        return Fleet(tuple(models.values()), complete, unreadable)

    async def _page(self, offset: int) -> _Page:
        raw = await self._service.get(PATH, offset=offset, limit=self._page_size)
        return decode(_PAGE, raw, self._service.name, f"page at {offset}")

    def _entry(self, item: object) -> _Entry | None:
        try:
            return (_TaggedEntry if self._tags else _Entry).model_validate(item)
        except ValidationError as error:
            shown = item.get("id") if isinstance(item, dict) else item
            logger.bind(event="entry_refused", peer=self._service.name).warning(
                "model {!r}: {}", shown, describe_validation(error)
            )
            self._service.telemetry.refused(self._service.name, 1)
            return None

    def _counts(self, entry: _Entry) -> bool:
        return entry.status == "RUNNING" and not entry.deleted and self._shard.minds(entry.name)

    def _tags_of(self, entry: _Entry) -> frozenset[str]:
        tags = entry.tags if isinstance(entry, _TaggedEntry) else []
        return self._tags.intersection(one.tag for one in tags)


def _id(item: object) -> UUID | None:
    """The id of an entry that cannot be understood otherwise."""
    try:
        return _Named.model_validate(item).id
    except ValidationError:
        return None
