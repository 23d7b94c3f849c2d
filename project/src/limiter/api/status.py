"""What stands now, for an operator, as values that JSON knows. It only reads."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from limiter import VERSION
from limiter.db import fleet_numbers, status
from limiter.domain.audit import DecisionRecord, in_words
from limiter.domain.fleet_numbers import FleetNumbers
from limiter.domain.policy import Policy
from limiter.domain.shard import Shard
from limiter.runner.scheduler import JobScheduler
from limiter.runner.spec import JobSpec
from limiter.telemetry import Telemetry

PER_PAGE = 50  # models; a page of all of a large fleet would take seconds to read and to show
MOST = 50  # rows of every other list


@dataclass(frozen=True)
class StatusReader:
    """Reads what the status tells; e-mail addresses are no part of it. `targets` are the configured metrics pages."""

    engine: AsyncEngine
    telemetry: Telemetry
    specs: Sequence[JobSpec]
    scheduler: JobScheduler
    clock: Callable[[], datetime]
    replica_id: UUID
    policy: Policy
    shard: Shard
    metrics_per_model: bool
    targets: Collection[str]

    async def numbers(self) -> FleetNumbers:
        """The numbers that the metrics tell; raises what the database raises."""
        async with self.engine.connect() as connection:
            found = await fleet_numbers.numbers(connection, self.targets, self.policy, self.clock())
            if self.metrics_per_model:
                models = await fleet_numbers.by_model(connection, self.targets, self.clock(), self._window)
                found = replace(found, by_model=models)
        return found

    def _window(self, model_name: str) -> timedelta:
        return self.policy.scaling(model_name).up_window

    async def read(self, page: int = 1) -> dict[str, Any]:
        """The status as values that JSON knows, models from this page on; raises what the database raises."""
        now = self.clock()
        async with self.engine.connect() as connection:
            numbers = await fleet_numbers.numbers(connection, self.targets, self.policy, now)
            jobs = await status.jobs(connection)
            spells = await status.who_is_next(connection, MOST, self.policy, now)
            surges = await status.surges(connection, MOST)
            models = await status.models(connection, PER_PAGE, PER_PAGE * (page - 1))
            commands = await status.commands(connection, MOST)
            targets = await status.targets(connection, self.targets)
            measured = await fleet_numbers.measured(connection, self.targets)
            events = await status.events(connection, MOST)
            events_total = await status.events_total(connection)
            decisions = await status.last_decisions(connection, 20)
        return {
            "version": VERSION,
            "dry_run": self.policy.dry_run,
            "shard": str(self.shard),
            "replica": str(self.replica_id),
            "at": now.isoformat(),
            "clock_off": self.scheduler.skewed,
            "jobs": [self._job(row) for row in jobs],
            "next": sorted((self._next(row, now) for row in spells), key=itemgetter("not_before")),
            "surges": [_plain(row) | {"held": [_plain(one) for one in row["held"]]} for row in surges],
            "next_total": int(sum(numbers.spells.values())),
            "models": [self._model(row, measured, now) for row in models],
            "models_total": numbers.models,
            "page": page,
            "pages": max(1, -(-numbers.models // PER_PAGE)),
            "replicas": numbers.replicas,
            "without_enough": numbers.without_enough,
            "commands": [_plain(row) for row in commands],
            "commands_total": int(sum(numbers.commands.values())),
            "targets": [_plain(row) | {"age_seconds": _since(row["read_at"], now)} for row in targets],
            "left_alone": sorted(f"{name} {url}" for name, url in self.telemetry.replica.left_alone),
            "events": [_plain(row) for row in events],
            "events_total": events_total,
            "decisions": [_decision(record, dry=dry) for record, dry in decisions],
        }

    def _job(self, row: status.Row) -> dict[str, Any]:
        spec = next((one for one in self.specs if one.name == row["name"]), None)
        names = ("name", "next_due_at", "paused", "paused_at", "paused_by", "paused_reason", "state", "cause")
        more = ("started_at", "ended_at", "replica_id", "error")
        interval = spec.interval if spec and spec.calendar is None else None
        return _plain({name: row[name] for name in (*names, *more)}) | {"interval_seconds": interval}

    def _next(self, row: status.Row, now: datetime) -> dict[str, Any]:
        """One open spell, in per cent of its way to the deadline; before its delivery, as if it were delivered now."""
        delivered, deadline = row["delivered_at"], row["not_before"]
        if not delivered:
            promised = self.policy.idle(row["model_name"]).earliest(deadline, now)
            return _plain(row) | {"not_before": _value(promised), "progress": None}
        whole, passed = ((at - delivered).total_seconds() for at in (deadline, now))
        done = 100 if whole <= 0 else round(100 * passed / whole)
        return _plain(row) | {"progress": min(100, max(0, done))}

    def _model(self, row: status.Row, measured: fleet_numbers.Measured, now: datetime) -> dict[str, Any]:
        """One instance of a model: its name's calls, which way it wishes to go and since when, and why it stands so."""
        rate = measured.rps(row["samples"], self._window(row["model_name"]), now)
        up, down, last = row["overloaded_since"], row["underused_since"], row["record"]
        names = ("model_name", "replicas", "standing", "first_seen_at", "overloaded_since", "underused_since")
        return _plain({name: row[name] for name in (*names, "last_used_at")}) | {
            "rps": None if rate is None else round(rate, 3),
            "wish": "up" if up else "down" if down else "none",
            "wish_since": _value(up or down),
            "why": last and last.why,
            "why_at": last and _value(last.at),
        }


def _decision(record: DecisionRecord, *, dry: bool) -> dict[str, Any]:
    return {
        "at": record.at.isoformat(),
        "model_name": record.model_name,
        "user_id": str(record.user_id) if record.user_id else None,
        "decision": in_words(record.decision, dry_run=dry),
        "reason": str(record.reason),
        "why": record.why,
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, UUID) else value


def _since(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else max(0.0, (now - at).total_seconds())
