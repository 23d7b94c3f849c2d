"""Whether this process' clock was set while it ran: only the monotonic clock, which cannot be set, can tell."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from limiter.runner.guard import LockLost


class ClockSet(LockLost):
    """The clock was set during the run: what is decided by it would be decided for another time."""


class SteadyClock:
    """The clock that decides, beside the event loop's; `limit` is how many seconds it may be off (0: any)."""

    def __init__(self, clock: Callable[[], datetime], limit: float) -> None:
        """It has not been compared with the database's yet."""
        self.now = clock
        self._limit = limit
        self._ahead: float | None = None

    def compared(self) -> None:
        """The database's clock agrees with it now."""
        self._ahead = self.ahead()

    def ahead(self) -> float:
        """By how many seconds it is ahead of the monotonic clock, which changes only if it is set."""
        return self.now().timestamp() - asyncio.get_running_loop().time()

    def check(self) -> None:
        """Raise ClockSet if it was set since it was compared."""
        if self._limit and self._ahead is not None and abs(moved := self.ahead() - self._ahead) > self._limit:
            raise ClockSet(f"the clock of this replica was set by {moved:.0f} s")
