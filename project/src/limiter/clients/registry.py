"""ModelRegistry: the running models."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from operator import is_
from sys import intern
from typing import Annotated
from uuid import UUID

import msgspec
from loguru import logger
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from limiter.clients.concurrency import gathered
from limiter.clients.decoding import KnownPages, Storable, decode, describe_validation
from limiter.clients.http import ServiceClient
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.shard import EVERY_MODEL, Shard

MOST = 1_000_000  # models, or replicas of one: an answer that tells of more is broken, not large
NO_TAGS = frozenset[str]()  # one for all: Python makes a new one at each call
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


# The same once more, for whole pages at once, in a tenth of the time: what they do not take is read entry by entry.
class _SoundInstance(msgspec.Struct, gc=False):
    replicas: Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class _SoundTag(msgspec.Struct, gc=False):
    tag: str


class _SoundEntry(msgspec.Struct, gc=False):
    id: UUID
    name: Annotated[str, msgspec.Meta(min_length=1)]
    status: str
    deleted: bool
    instance: _SoundInstance


class _SoundTaggedEntry(_SoundEntry, gc=False):
    tags: list[_SoundTag]


class _SoundPage(msgspec.Struct, gc=False):
    items: list[_SoundEntry]
    total: Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class _SoundTaggedPage(msgspec.Struct, gc=False):
    items: list[_SoundTaggedEntry]
    total: Annotated[int, msgspec.Meta(ge=0, le=MOST)]


@dataclass(frozen=True, slots=True)
class _Read:
    """What one page said: the running models, the ids of all that was understood, and of what was not."""

    total: int
    running: Sequence[ServedModel]
    understood: frozenset[UUID]
    refused: frozenset[UUID] = frozenset()


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
        self._decoder: msgspec.json.Decoder[_SoundPage | _SoundTaggedPage] = msgspec.json.Decoder(
            _SoundTaggedPage if tags else _SoundPage
        )
        self._pages = KnownPages(self._sound)
        self._last: Sequence[_Read] = ()
        self._fleet = Fleet(())

    async def running(self) -> Fleet:
        """Every running model that is minded here.

        An entry that is not as the contract says is counted, and known by its id at most. Raises ServiceError.
        """
        first = await self._page(0)
        offsets = range(self._page_size, first.total, self._page_size)
        rest = await gathered([partial(self._page, offset) for offset in offsets], self._service.concurrency)
        pages = (first, *rest)
        if len(pages) == len(self._last) and all(map(is_, pages, self._last)):
            return self._fleet
        fleet = await asyncio.to_thread(_fleet, pages)
        self._last, self._fleet = pages, fleet
        return fleet

    async def _page(self, offset: int) -> _Read:
        """The page, the same object as long as nothing on it changes."""
        raw = await self._service.get(PATH, offset=offset, limit=self._page_size)
        read = self.read(offset, raw)
        if read is not None:
            return read
        return self._one_by_one(decode(_PAGE, raw, self._service.name, f"page at {offset}"))

    def read(self, offset: int, raw: bytes) -> _Read | None:
        """What a sound page says, the same object as long as nothing on it changes; None if one entry is not sound."""
        return self._pages.read(offset, raw)

    def _sound(self, raw: bytes) -> _Read | None:
        """The whole page at once; None if something on it is not as it should be."""
        try:
            page = self._decoder.decode(raw)
        except msgspec.MsgspecError:
            return None
        return _Read(page.total, self._running(page.items), frozenset(entry.id for entry in page.items))

    def _one_by_one(self, page: _Page) -> _Read:
        read = [(item, self._entry(item)) for item in page.items]
        entries = [entry for _, entry in read if entry is not None]
        refused = frozenset(id for item, entry in read if entry is None and (id := _id(item)) is not None)
        return _Read(page.total, self._running(entries), frozenset(entry.id for entry in entries), refused)

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

    def _running(self, entries: Sequence[_Entry | _SoundEntry]) -> list[ServedModel]:
        return [
            ServedModel(entry.id, intern(entry.name), entry.instance.replicas, self._tags_of(entry))
            for entry in entries
            if entry.status == "RUNNING" and not entry.deleted and self._shard.minds(entry.name)
        ]

    def _tags_of(self, entry: _Entry | _SoundEntry) -> frozenset[str]:
        if not isinstance(entry, _TaggedEntry | _SoundTaggedEntry):
            return NO_TAGS
        return self._tags.intersection(one.tag for one in entry.tags)


def _fleet(pages: Sequence[_Read]) -> Fleet:
    """What the pages say together."""
    models = {model.id: model for page in pages for model in page.running}
    understood = frozenset[UUID]().union(*(page.understood for page in pages))
    unreadable = frozenset[UUID]().union(*(page.refused for page in pages)) - understood
    # Short of an id, somebody else may be running, or an id stands twice and hides another.
    complete = len(understood) + len(unreadable) == pages[0].total
    return Fleet(tuple(models.values()), complete, unreadable)


def _id(item: object) -> UUID | None:
    """The id of an entry that cannot be understood otherwise."""
    try:
        return _Named.model_validate(item).id
    except ValidationError:
        return None
