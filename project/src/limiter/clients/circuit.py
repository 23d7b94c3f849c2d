"""A circuit per external service: one that keeps failing is left alone for a while and costs a tick no timeouts."""

import asyncio
from dataclasses import dataclass, field


@dataclass
class Circuit:
    """Closed until `failures` calls in a row failed; then open for `rest` seconds, after which one call may try.

    Times are the event loop's, so that a stopped or stepped wall clock neither opens nor closes it.
    """

    failures: int
    rest: float
    failed: int = 0
    open_until: float = 0.0
    _trial: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._trial.set()

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now, or the next is only a trial."""
        return self.failed >= self.failures

    def allows(self) -> bool:
        """Whether a call may be made now; after the rest, the first to ask is the one that tries."""
        if self.failed < self.failures:
            return True
        now = asyncio.get_running_loop().time()
        if now < self.open_until:
            return False
        self.open_until = now + self.rest
        self._trial.clear()
        return True

    async def trial_over(self) -> None:
        """Wait for the call that tries, if one does: what must not fail for being second learns how it went."""
        while not self._trial.is_set():  # by the time it wakes the next may try
            await self._trial.wait()

    def ended(self, *, is_trial: bool) -> None:
        """A call has ended, whatever came of it."""
        if is_trial:
            self._trial.set()

    def told_nothing(self, *, is_trial: bool) -> None:
        """A call was answered, but not about the service: if it was to try, the next one may, without a rest."""
        if is_trial:
            self.open_until = 0.0

    def succeeded(self) -> None:
        self.failed = 0

    def record_failure(self) -> None:
        """Count a call that got no good answer."""
        self.failed += 1
        if self.failed >= self.failures:
            self.open_until = asyncio.get_running_loop().time() + self.rest
