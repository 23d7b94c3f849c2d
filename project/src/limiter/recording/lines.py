"""The values that the lines of a recording are read into."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from limiter.domain.audit import DecisionRecord
from limiter.domain.command import Command
from limiter.domain.fleet import Fleet
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.job import Job
from limiter.domain.keep import Keep
from limiter.domain.reservations import Bookings, Slot
from limiter.domain.snapshot import BookingKey
from limiter.domain.usage import Scrape
from limiter.recording.format import Start


@dataclass(frozen=True, slots=True)
class Began:
    """The beginning of one process's lines."""

    settings: dict[str, Any]
    start: Start


@dataclass(frozen=True, slots=True)
class Tick:
    """One run of rps_check; `fleet` is None if the registry did not answer.

    `booked` are the models of which a slot ran, where the budget was short; else they were not read.
    """

    at: datetime
    scrapes: tuple[Scrape, ...]
    fleet: Fleet | None
    commands: dict[UUID, Command]
    found: list[DecisionRecord]
    saga_seconds: dict[str, float] = field(default_factory=dict)
    booked: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class RecordedSnapshot:
    """One snapshot of an idle job; `of` is whom it was taken for, None for the sweep over all."""

    of: BookingKey | None
    at: datetime
    basis: float | None
    scrapes: tuple[Scrape, ...]
    fleet: Fleet
    bookings: Bookings
    spells: dict[BookingKey, IdleSpell]
    closed: dict[BookingKey, datetime]
    resumed_at: datetime | None
    keeps: list[Keep] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Idle:
    """One run of an idle job, with the slots it cancelled."""

    job: Job
    at: datetime
    snapshots: list[RecordedSnapshot]
    found: list[DecisionRecord]
    cancelled: list[tuple[BookingKey, Slot]]


Line = Began | Tick | Idle
