"""What was read, as the fields of a recorded line: of long tables, only what changed since the line before."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from limiter.domain.command import Command
from limiter.domain.fleet import Fleet
from limiter.domain.reservations import Bookings, Slot
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import Scrape, ScrapedPage
from limiter.recording.format import COMMAND, KEEPS, SPELL, Deltas


class Encoder:
    """The fields of the lines of one process, in their order."""

    def __init__(self) -> None:
        self._deltas = Deltas()

    def commands(self, commands: Mapping[UUID, Command]) -> dict[str, Any]:
        fields = {str(id): COMMAND.dump_python(command, mode="json") for id, command in commands.items()}
        return self._deltas.encode("commands", fields)

    def saga_seconds(self, saga_seconds: Mapping[str, float]) -> dict[str, Any]:
        return self._deltas.encode("sagas", dict(saga_seconds))

    def snapshot(self, key: BookingKey | None, snapshot: Snapshot) -> dict[str, Any]:
        spells = {str(spell.id): SPELL.dump_python(spell, mode="json") for spell in snapshot.prior.spells.values()}
        closed = {" ".join(map(str, one)): at.timestamp() for one, at in snapshot.prior.closed.items()}
        return {
            "of": [str(id) for id in key] if key else None,
            "at": snapshot.at.timestamp(),
            "basis": basis.timestamp() if (basis := snapshot.remembered.read_at) else None,
            "scrapes": self.scrapes(snapshot.scrapes),
            "fleet": self.fleet(snapshot.fleet),
            "bookings": self._bookings(snapshot.bookings),
            "spells": self._deltas.encode("spells", spells),
            "closed": self._deltas.encode("closed", closed),
            "resumed_at": snapshot.prior.resumed_at.timestamp() if snapshot.prior.resumed_at else None,
            "keeps": KEEPS.dump_python(list(snapshot.prior.keeps), mode="json"),
        }

    def scrapes(self, scrapes: Iterable[Scrape]) -> list[dict[str, Any]]:
        return [
            (
                self._page(one)
                if isinstance(one, ScrapedPage)
                else {"target": one.target, "unread": [one.reason, one.detail]}
            )
            for one in scrapes
        ]

    def _page(self, page: ScrapedPage) -> dict[str, Any]:
        fields = {
            "target": page.target,
            "read_at": page.read_at.timestamp(),
            "counters": self._deltas.encode(f"counters {page.target}", dict(page.counters)),
            "names": self._deltas.encode(f"names {page.target}", dict(page.names)),
        }
        extra = {
            "started_at": page.started_at,
            "unreadable": dict(page.unreadable),
            "busy": sorted(page.busy),
            "digest": page.digest,
            "heartbeat": page.heartbeat,
            "read_as": page.read_as,
        }
        return fields | {name: value for name, value in extra.items() if value}

    def fleet(self, fleet: Fleet) -> dict[str, Any]:
        models = {
            str(model.id): [model.name, model.replicas] + ([sorted(model.tags)] if model.tags else [])
            for model in fleet.models
        }
        extra = {"partial": not fleet.complete, "unreadable": sorted(map(str, fleet.unreadable))}
        given = {name: value for name, value in extra.items() if value}
        return {"models": self._deltas.encode("fleet", models)} | given

    def _bookings(self, bookings: Bookings) -> dict[str, Any]:
        booked = {
            one.id: [
                str(one.user.id),
                one.user.name,
                one.model_name,
                str(one.model_id) if one.model_id else None,
                [slot_fields(slot)[:3] for slot in one.slots],
            ]
            for one in bookings.reservations
        }
        unreadable = {"unreadable": sorted(bookings.unreadable)} if bookings.unreadable else {}
        return {"reservations": self._deltas.encode("reservations", booked)} | unreadable


def slot_fields(slot: Slot) -> list[Any]:
    return [slot.start.timestamp(), slot.end.timestamp(), slot.id, slot.reservation_id]
