"""A job's lock while it is ours: trust window, heartbeat, detection of its loss."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from asyncpg import InterfaceError, InternalClientError, PostgresError
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.runner.keys import LockTiming, Mark


class LockLost(Exception):
    """The lock is not ours any more: the run stops, and nothing more of it is written."""


class Guard:
    """The lock as this process knows it, and the heartbeat that keeps it."""

    def __init__(self, connection: AsyncConnection, *, timing: LockTiming, mark: Mark, confirmed_at: float) -> None:
        self.mark = mark
        self._connection = connection
        self._timing = timing
        self._confirmed_at = confirmed_at  # the loop's time just before the last good statement was sent
        self.lost: str | None = None
        self.on_lost: Callable[[], object] = lambda: None

    def check(self) -> None:
        """Raise LockLost unless the lock was confirmed within the trust window."""
        silent = asyncio.get_running_loop().time() - self._confirmed_at
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
                self._confirmed_at = sent_at

    async def refresh(self) -> None:
        # A utility statement: unlike a query it leaves no snapshot open that would keep vacuum back. In one message, by
        # the driver itself: a process may freeze between the two parts of a statement, where no idle timeout runs.
        driver = (await self._connection.get_raw_connection()).driver_connection
        assert driver is not None
        limit = f"{self._timing.idle_timeout * 1000:.0f}"
        try:
            await driver.execute(f"SET LOCAL idle_in_transaction_session_timeout = {limit}")
        except (PostgresError, InterfaceError, InternalClientError) as error:
            raise ConnectionError(f"heartbeat failed: {type(error).__name__}: {error}") from error


@asynccontextmanager
async def watched(connection: AsyncConnection, guard: Guard) -> AsyncIterator[None]:
    """Beat the heart while the lock is kept, and hear of a lost connection without asking."""
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
