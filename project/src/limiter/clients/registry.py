"""ModelRegistry: the running models."""

from collections.abc import Collection, Sequence
from functools import partial
from operator import is_
from sys import intern

import msgspec
from loguru import logger
from pydantic import ValidationError

from limiter.clients.concurrency import gathered
from limiter.clients.decoding import KnownPages, decode, describe_validation
from limiter.clients.flaws import Flaws
from limiter.clients.http import ServiceClient
from limiter.clients.registry_list import ReadList, ReadPage, read_list
from limiter.clients.registry_wire import (
    PAGE,
    SoundEntry,
    SoundPage,
    SoundTaggedEntry,
    SoundTaggedPage,
    WireEntry,
    WirePage,
    WireTaggedEntry,
    id_of,
)
from limiter.computing import computed
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.shard import EVERY_MODEL, Shard

NO_TAGS = frozenset[str]()  # one for all: Python makes a new one at each call
PATH = "/v2/models/running/find-by"


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
        self._decoder: msgspec.json.Decoder[SoundPage | SoundTaggedPage] = msgspec.json.Decoder(
            SoundTaggedPage if tags else SoundPage
        )
        self._pages = KnownPages(self.sound)
        self._last: Sequence[ReadPage] = ()
        self._list = ReadList(Fleet(()))
        self._flaws = Flaws(service.telemetry, "registry", "running models")

    @property
    def flaw(self) -> str | None:
        """What was wrong with the list when it was last read, if something was."""
        return self._list.flaw

    async def running(self) -> Fleet:
        """Every running model that is minded here.

        An entry that is not as the contract says is counted, and known by its id at most. Raises ServiceError.
        """
        first = await self._page(0)
        offsets = range(self._page_size, first.total, self._page_size)
        rest = await gathered([partial(self._page, offset) for offset in offsets], self._service.concurrency)
        pages = (first, *rest)
        read = self._list
        if len(pages) != len(self._last) or not all(map(is_, pages, self._last)):
            read = await computed(read_list, pages, self._page_size)
            self._last, self._list = pages, read
        self._flaws.found(read.flaw)
        return read.fleet

    async def _page(self, offset: int) -> ReadPage:
        """The page, the same object as long as nothing on it changes."""
        raw = await self._service.get(PATH, offset=offset, limit=self._page_size)
        read = await self._pages.read(offset, raw)
        if read is not None:
            return read
        return self._one_by_one(decode(PAGE, raw, self._service.name, f"page at {offset}"))

    def sound(self, raw: bytes) -> ReadPage | None:
        """The whole page at once; None if something on it is not as it should be."""
        try:
            page = self._decoder.decode(raw)
        except msgspec.MsgspecError:
            return None
        ids = [entry.id for entry in page.items]
        if len(set(ids)) < len(ids):
            return None
        return ReadPage(page.total, len(ids), self._running(page.items), ids)

    def _one_by_one(self, page: WirePage) -> ReadPage:
        items = {repr(item): item for item in page.items}.values()  # one that is repeated hides no other
        read = [(item, self._entry(item)) for item in items]
        entries = [entry for _, entry in read if entry is not None]
        refused = {id: item for item, entry in read if entry is None and (id := id_of(item)) is not None}
        others = [id for id, item in refused.items() if self._is_of_others(item)]
        understood = [entry.id for entry in entries] + others
        return ReadPage(
            total=page.total,
            lists=len(page.items),
            running=self._running(entries),
            understood=understood,
            refused=frozenset(refused).difference(others),
            repeated=len(page.items) - len(items),
        )

    def _is_of_others(self, item: object) -> bool:
        """Whether an entry that cannot be read shows all the same that it does not run, or is of another share."""
        status, name = (item.get("status"), item.get("name")) if isinstance(item, dict) else (None, None)
        # A name that is not printable may be half of a surrogate pair, which has no bytes to tell the share by.
        is_name = isinstance(name, str) and name != "" and name.isprintable()
        other_share = is_name and not self._shard.minds(str(name))
        return other_share or (isinstance(status, str) and status != "RUNNING")

    def _entry(self, item: object) -> WireEntry | None:
        try:
            return (WireTaggedEntry if self._tags else WireEntry).model_validate(item)
        except ValidationError as error:
            shown = item.get("id") if isinstance(item, dict) else item
            logger.bind(event="entry_refused", peer=self._service.name).warning(
                "model {!r}: {}", shown, describe_validation(error)
            )
            self._service.telemetry.refused(self._service.name, 1)
            return None

    def _running(self, entries: Sequence[WireEntry | SoundEntry]) -> list[ServedModel]:
        return [
            ServedModel(entry.id, intern(entry.name), entry.instance.replicas, self._tags_of(entry))
            for entry in entries
            if entry.status == "RUNNING" and not entry.deleted and self._shard.minds(entry.name)
        ]

    def _tags_of(self, entry: WireEntry | SoundEntry) -> frozenset[str]:
        # First what is cheap to ask: pydantic's own classes take a microsecond.
        if not self._tags or not isinstance(entry, (SoundTaggedEntry, WireTaggedEntry)):
            return NO_TAGS
        return self._tags.intersection([one.tag for one in entry.tags])
