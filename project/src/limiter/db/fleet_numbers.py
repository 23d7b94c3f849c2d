"""The numbers about the whole fleet, for the metrics: short statements over open rows and small tables."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, any_, extract, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import idle_spells, ledger, scaling_states
from limiter.db.bulk import texts
from limiter.db.due import due_at
from limiter.db.tables import command, decision, idle_spell, job, scaling_state, target
from limiter.db.tables import usage as used
from limiter.db.waiting_events import late
from limiter.domain.command import UNFINISHED
from limiter.domain.decision import Decision
from limiter.domain.fleet_numbers import FleetNumbers, ModelNumbers
from limiter.domain.idle_spell import OPEN_STATES, SpellState
from limiter.domain.policy import Policy
from limiter.domain.rates import Sample, mean_rate

NOW = func.now()
FLAPPING_WITHIN, FLAPPING_EACH = timedelta(hours=1), 2  # within an hour, twice up and twice down
Window = Callable[[str], timedelta]


async def numbers(connection: AsyncConnection, targets: Collection[str], policy: Policy, now: datetime) -> FleetNumbers:
    """The numbers about the whole fleet, under this policy, and how old the readings of these targets are."""
    models, replicas, without = await scaling_states.observed(connection)
    in_progress = await ledger.in_progress(connection)
    in_progress["cancel_booking"] = await idle_spells.enforcing(connection)
    states = select(command.c.state, func.count()).where(command.c.state.in_(UNFINISHED)).group_by(command.c.state)
    spells = select(idle_spell.c.state, func.count()).where(idle_spell.c.state.in_(OPEN_STATES))
    due = select(extract("epoch", func.min(due_at(policy)))).where(idle_spell.c.state == SpellState.WARNED)
    quiet = policy.idle_rule.quiet.open_from(now) != now
    pending, oldest = (await connection.execute(late(quiet=quiet))).one()
    return FleetNumbers(
        models=models,
        replicas=replicas,
        without_enough=without,
        in_progress=in_progress,
        commands=await _pairs(connection, states),
        spells=await _pairs(connection, spells.group_by(idle_spell.c.state)),
        next_deadline=_number(await connection.scalar(due)),
        pending=pending,
        oldest_event=None if oldest is None else max(0.0, float(oldest)),
        paused=await _pairs(connection, select(job.c.name, job.c.paused)),
        reading_ages=await _pairs(connection, _ages(targets)),
        flapping=int(await connection.scalar(_flapping()) or 0),
    )


def _ages(targets: Collection[str]) -> Any:
    """The seconds since each of these targets was last read well."""
    age = func.greatest(0, extract("epoch", NOW - target.c.read_at))
    return select(target.c.target, age).where(target.c.target == any_(texts(targets)))


def _flapping() -> Any:
    """How many models were scaled up and down, each `FLAPPING_EACH` times or more, within `FLAPPING_WITHIN`."""
    recent = decision.c.decided_at > NOW - FLAPPING_WITHIN
    times = [
        func.count().filter(decision.c.decision == way) >= FLAPPING_EACH
        for way in (Decision.SCALE_UP, Decision.SCALE_DOWN)
    ]
    scaled = select(decision.c.model_id).where(
        recent, decision.c.decision.in_((Decision.SCALE_UP, Decision.SCALE_DOWN))
    )
    both = scaled.group_by(decision.c.model_id).having(and_(*times)).subquery("both")
    return select(func.count()).select_from(both)


async def by_model(
    connection: AsyncConnection, targets: Collection[str], now: datetime, window: Window
) -> dict[str, ModelNumbers]:
    """The numbers of every running model, by name: instances of one name share its calls. `window`: of the rate."""
    counted = await measured(connection, targets)
    columns = (scaling_state.c.model_name, func.sum(scaling_state.c.replicas), func.min(scaling_state.c.first_seen_at))
    query = select(*columns, used.c.last_used_at, used.c.samples)
    query = query.outerjoin(used, used.c.model_name == scaling_state.c.model_name)
    query = query.group_by(scaling_state.c.model_name, used.c.last_used_at, used.c.samples)
    return {
        name: ModelNumbers(
            rps=counted.rps(samples, window(name), now),
            replicas=int(replicas),
            idle_seconds=max(0.0, (now - (last or first_seen)).total_seconds()),
        )
        for name, replicas, first_seen, last, samples in await connection.execute(query)
    }


@dataclass(frozen=True, slots=True)
class Measured:
    """From when until when calls were counted, and since when some page was not read; None before the first reading."""

    since: datetime | None
    until: datetime | None
    unread_since: datetime | None

    def rps(self, samples: str | None, window: timedelta, now: datetime) -> float | None:
        """Calls per second within the window before the last reading, from the samples as they are stored.

        None: not known, since some page was never read, or not for two windows: one may lie between two runs.
        """
        if self.since is None or self.until is None or self.unread_since is None:
            return None
        if now - self.unread_since > 2 * window:
            return None
        if samples is None or self.since == self.until:
            return 0.0
        span = min(window, self.until - self.since).total_seconds()
        return mean_rate([Sample(*sample) for sample in json.loads(samples)], self.until.timestamp(), span)


async def measured(connection: AsyncConnection, targets: Collection[str]) -> Measured:
    """From when until when calls were counted on the pages of these targets."""
    columns = (func.count(), func.min(target.c.first_read_at), func.max(target.c.read_at), func.min(target.c.read_at))
    found = await connection.execute(select(*columns).where(target.c.target == any_(texts(targets))))
    read, since, until, unread_since = found.one()
    return Measured(since, until, unread_since if read == len(set(targets)) else None)


async def _pairs(connection: AsyncConnection, query: Any) -> dict[str, Any]:
    return {key: float(value) for key, value in await connection.execute(query)}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
