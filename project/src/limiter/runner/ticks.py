"""The ticks of one replica, by APScheduler, and the proof that they go on."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from loguru import logger

from limiter.domain.job import Job
from limiter.runner.spec import JobSpec
from limiter.runner.steady import SteadyClock

CLOCK_SET = 1.0  # seconds by which no clock drifts in one
TICKS_PER_INTERVAL = 4  # a replica that takes over must not wait a whole interval
OPTIONS = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}


class Ticks:
    """Calls for each job at its own pace, and beats once a second."""

    def __init__(self, steady: SteadyClock, longest: float) -> None:
        """`longest` is the most seconds between two ticks."""
        self.scheduler = AsyncIOScheduler(timezone=UTC)
        self._steady = steady
        self._longest = longest
        self._watching: asyncio.Task[None] | None = None
        self._beat_at: float | None = None

    def add(self, spec: JobSpec, tick: Callable[[Job], Awaitable[None]]) -> None:
        """Tick for the job; each replica at its own phase, so that they do not all ask at once."""
        job, seconds = spec.name, self.seconds(spec)
        first = datetime.now(UTC) + timedelta(seconds=random.uniform(0, seconds))  # noqa: S311 - a phase, no secret
        self.scheduler.add_job(tick, "interval", seconds=seconds, args=[job], id=job, next_run_time=first, **OPTIONS)

    def seconds(self, spec: JobSpec) -> float:
        """The pause between two ticks; a calendar has no interval of which to take a part."""
        part = spec.interval / TICKS_PER_INTERVAL
        return min(part, self._longest) if spec.calendar is None else self._longest

    def start(self) -> None:
        """Begin to tick, and to beat."""
        self.scheduler.add_job(self._beat, "interval", seconds=1, id="heartbeat", **OPTIONS)
        self.scheduler.start()
        self._watching = asyncio.create_task(self._watch_clock())
        self._beat_at = asyncio.get_running_loop().time()

    async def _watch_clock(self) -> None:
        """APScheduler goes by the wall clock: once that is set back, its next ticks would lie in the far future."""
        while True:
            before = self._steady.ahead()
            await asyncio.sleep(1)
            moved = self._steady.ahead() - before
            if abs(moved) > CLOCK_SET:
                logger.bind(event="clock_set", seconds=round(moved)).warning("the clock was set by {:.0f} s", moved)
                for job in self.scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))

    async def _beat(self) -> None:
        self._beat_at = asyncio.get_running_loop().time()

    def silent_for(self) -> float | None:
        """Seconds since the last beat; None before the start."""
        return None if self._beat_at is None else asyncio.get_running_loop().time() - self._beat_at

    def pause(self) -> None:
        """Tick no more."""
        if self._watching is not None:
            self._watching.cancel()
        if self.scheduler.running:
            self.scheduler.pause()

    def end(self) -> None:
        """Let go of the event loop."""
        if self.scheduler.running:
            self.scheduler.shutdown(wait=False)
