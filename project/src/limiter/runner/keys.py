"""The advisory locks of the jobs: their timing, their keys, and the marks of transactions that lock a job's row."""

import zlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Function, func, text
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.domain.job import Job


@dataclass(frozen=True, slots=True)
class LockTiming:
    """Seconds: beat every `heartbeat`, trust the lock for `trust` after a beat, be cut off after `idle_timeout`."""

    heartbeat: float
    trust: float
    idle_timeout: float


def idle_limit(seconds: float) -> Function[str]:
    """As part of a statement: Postgres ends this transaction if its client is idle in it for so long."""
    return func.set_config("idle_in_transaction_session_timeout", f"{seconds * 1000:.0f}", True)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a transaction carries that locks a job's row, so that it can be ended when its client has frozen in it.

    The idle timeout does that, unless the client froze between the messages of one statement: Postgres does not call
    that idle, and no timeout of its own ends it. So the transaction takes a shared advisory lock besides, which nobody
    ever waits for: it tells the next runner of the job which backends to end.
    """

    schema: int
    number: int
    timing: LockTiming

    def columns(self) -> tuple[Function[Any], ...]:
        """To be part of the transaction's first statement."""
        return idle_limit(self.timing.idle_timeout), func.pg_try_advisory_xact_lock_shared(self.schema, self.number)

    async def end_silent(self, connection: AsyncConnection) -> int:
        """Ends what an earlier runner left open; returns how many transactions. Only with the job's lock.

        Its guard has been silent for the idle timeout by then, so its writes have been for all of that but a heartbeat.
        """
        silent = {"schema": _unsigned(self.schema), "number": _unsigned(self.number), "seconds": self.timing.heartbeat}
        return len((await connection.execute(END_SILENT, silent)).all())


# Backends may end others of their own user.
END_SILENT = text("""
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint = :schema AND objid::bigint = :number AND mode = 'ShareLock'
      AND state_change < clock_timestamp() - make_interval(secs => :seconds)
    """)


@dataclass(frozen=True, slots=True)
class LockKeys:
    """The advisory lock keys of one schema's jobs: such locks know no schemas, only numbers."""

    schema: str
    timing: LockTiming

    def lock(self, job: Job) -> tuple[int, int]:
        """The key of the job's lock."""
        return _key(self.schema), _key(job)

    def mark(self, job: Job) -> Mark:
        """The mark of the job's writers."""
        return Mark(schema=_key(self.schema), number=_key(f"writer of {job}"), timing=self.timing)


def _key(name: str) -> int:
    value = zlib.crc32(name.encode())
    return value - 2**32 if value >= 2**31 else value


def _unsigned(key: int) -> int:
    return key & 0xFFFFFFFF
