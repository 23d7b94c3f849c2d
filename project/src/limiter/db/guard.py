"""A held job lock: how long it may be believed in, the heartbeat that keeps it, and how its loss is heard of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from asyncpg import InterfaceError, PostgresError
from sqlalchemy import Function, func, text
from sqlalchemy.ext.asyncio import AsyncConnection


class LockLost(Exception):
    """This replica no longer holds the job: the run stops, and nothing more of it is written."""


@dataclass(frozen=True, slots=True)
class LockTiming:
    """Seconds: beat every `heartbeat`, believe the lock for `trust` after a beat, be cut off after `idle_timeout`."""

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
    that idle, and no timeout of its own ends it. So the transaction holds a shared advisory lock besides, which nobody
    ever waits for: it tells the next holder of the job which backends to end.
    """

    schema: int
    number: int
    timing: LockTiming

    def columns(self) -> tuple[Function[Any], ...]:
        """To be part of the transaction's first statement."""
        return idle_limit(self.timing.idle_timeout), func.pg_try_advisory_xact_lock_shared(self.schema, self.number)

    async def end_silent(self, connection: AsyncConnection) -> int:
        """For the holder of the job's lock: end what an earlier holder left open; returns how many transactions.

        Its guard has been silent for the idle timeout by then, so its writes have been for all of that but a heartbeat.
        """
        silent = {"schema": self.schema & 0xFFFFFFFF, "number": self.number, "seconds": self.timing.heartbeat}
        return len((await connection.execute(END_SILENT, silent)).all())


# Backends may end others of their own user.
END_SILENT = text("""
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint = :schema AND objid::bigint = :number AND mode = 'ShareLock'
      AND state_change < clock_timestamp() - make_interval(secs => :seconds)
    """)


class Guard:
    """A held lock: what is known of it locally, and the heartbeat that keeps it."""

    def __init__(self, connection: AsyncConnection, timing: LockTiming, mark: Mark, held_at: float) -> None:
        self.mark = mark
        self._connection = connection
        self._timing = timing
        self._held_at = held_at  # the loop's time just before the last good statement was sent
        self.lost: str | None = None
        self.on_lost: Callable[[], object] = lambda: None

    def check(self) -> None:
        """Raise LockLost unless the lock was confirmed within the trust window."""
        silent = asyncio.get_running_loop().time() - self._held_at
        if self.lost is None and silent > self._timing.trust:
            self.lose(f"no heartbeat for {silent:.1f} s")
        if self.lost is not None:
            raise LockLost(self.lost)

    def lose(self, why: str) -> None:
        """The lock is gone, or may be: stop the run."""
        if self.lost is None:
            self.lost = why
            self.on_lost()

    async def beat(self) -> None:
        while self.lost is None:
            await asyncio.sleep(self._timing.heartbeat)
            sent_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(self._timing.trust - self._timing.heartbeat):
                    await self.refresh()
            except (OSError, TimeoutError) as error:
                self.lose(str(error) or "heartbeat not answered in time")
            else:
                self._held_at = sent_at

    async def refresh(self) -> None:
        # A utility statement: unlike a query it leaves no snapshot open that would hold vacuum back. In one message, by
        # the driver itself: a process may freeze between the two parts of a statement, where no idle timeout runs.
        driver = (await self._connection.get_raw_connection()).driver_connection
        assert driver is not None
        limit = f"{self._timing.idle_timeout * 1000:.0f}"
        try:
            await driver.execute(f"SET LOCAL idle_in_transaction_session_timeout = {limit}")
        except (PostgresError, InterfaceError) as error:
            raise ConnectionError(f"heartbeat failed: {type(error).__name__}: {error}") from error


@asynccontextmanager
async def watched(connection: AsyncConnection, guard: Guard) -> AsyncIterator[None]:
    """Beat the heart while the lock is held, and hear of a lost connection without asking."""
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None

    def terminated(_: object) -> None:
        guard.lose("connection lost")

    driver.add_termination_listener(terminated)
    beat = asyncio.create_task(guard.beat())
    try:
        yield
    finally:
        driver.remove_termination_listener(terminated)
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat
        if guard.lost is not None:
            await connection.invalidate()
