"""The scheduler: at a tick Postgres says what is due and who runs it, `Execution` runs every job."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from loguru import logger

from limiter.db.engine import DATABASE_ERRORS, describe, reason_of
from limiter.domain.audit import counted
from limiter.domain.job import Job
from limiter.runner.claim import Cause, RunReport, RunState
from limiter.runner.due import Due
from limiter.runner.execution import Execution
from limiter.runner.guard import LockLost
from limiter.runner.job_table import JobTable
from limiter.runner.lock import JobLock
from limiter.runner.spec import JobSpec
from limiter.runner.steady import SteadyClock
from limiter.runner.ticks import Ticks
from limiter.telemetry import Telemetry


class JobScheduler:
    """All jobs of one replica; whichever replica's tick finds a job due and its lock free runs it."""

    def __init__(
        self,
        *,
        specs: Iterable[JobSpec],
        lock: JobLock,
        table: JobTable,
        clock: Callable[[], datetime],
        telemetry: Telemetry,
        longest_tick: float,
        skew_limit: float,
    ) -> None:
        """`longest_tick` is the most seconds between two ticks, `skew_limit` how far the clock may be off (0: any)."""
        self._specs = {spec.name: spec for spec in specs}
        self._lock = lock
        self._table = table
        self._clock = clock
        self._telemetry = telemetry
        self._steady = SteadyClock(lambda: self._clock(), skew_limit)
        self._execution = Execution(table, self._steady, telemetry)
        self._skew_limit = skew_limit
        self._ticks = Ticks(self._steady, longest_tick)
        self._running: set[asyncio.Task[RunReport | None]] = set()
        self._runs = 0  # how many runs of any job this process knows to have been claimed
        self.draining = False
        self.skewed = False

    def start(self) -> None:
        """Begin to tick."""
        for spec in self._specs.values():
            self._ticks.add(spec, self.tick)
        self._ticks.start()

    def silent_for(self) -> float | None:
        """Seconds since the scheduler last proved that it ticks; None before it was started."""
        return self._ticks.silent_for()

    async def stop(self, patience: float) -> None:
        """Start no more runs, give running ones `patience` seconds, then interrupt them."""
        self.draining = True
        self._ticks.pause()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._ticks.end()

    async def tick(self, job: Job) -> None:
        """Run the job if it is due and no other replica runs it."""
        if self.draining:
            return
        try:
            await self._tracked(self._tick(self._specs[job]))
        except asyncio.CancelledError:
            if not self.draining:  # else it was interrupted by `stop`, which is no error to log
                raise

    async def _tick(self, spec: JobSpec) -> RunReport | None:
        try:
            report = await self._run(spec, Cause.SCHEDULE) if await self._is_due(spec) else None
        except DATABASE_ERRORS as error:
            self._telemetry.goes_on(reason_of(error), describe(error), job=spec.name)
            return None
        if report is not None:  # it was claimed: a database that answers may only read
            self._telemetry.is_over("database_unavailable")
        return report

    async def _is_due(self, spec: JobSpec) -> bool:
        due = await self._ask(spec)
        skew = self._skew(due)
        if skew and due.due:
            self._telemetry.goes_on("clock_skew", skew, job=spec.name)
        return due.due and not skew

    async def _ask(self, spec: JobSpec) -> Due:
        """Whether the job is due; before any run, a database that was put back to an earlier state is noticed."""
        known = self._runs
        due = await self._table.due(spec.name, spec.interval, spec.has_work, spec.calendar)
        if (missing := min(known, self._runs) - due.runs) > 0:
            await self._table.put_back(due.database_time if self._skew(due) else self._clock())
            self._runs = due.runs
            self._telemetry.critical("database_put_back", f"{counted(missing, 'run')} of the jobs it does not know")
        self._runs = max(self._runs, due.runs)
        return due

    def _skew(self, due: Due) -> str | None:
        """What is wrong with our clock, if it is too far off: it would warn and cancel at wrong times."""
        skew = abs((self._clock() - due.database_time).total_seconds())
        self.skewed = 0 < self._skew_limit < skew
        if not self.skewed:
            self._steady.compared()
        return f"{skew:.0f} s off the database's clock" if self.skewed else None

    async def run_manually(self, job: Job, patience: float) -> RunReport | None:
        """Run the job now, due or not, paused or not; None if others had its lock for `patience` seconds.

        A replica whose clock is off runs nothing by hand either.
        """
        loop = asyncio.get_running_loop()
        give_up, spec = loop.time() + patience, self._specs[job]
        skew = self._skew(await self._ask(spec))
        if skew:
            self._telemetry.critical("clock_skew", skew, job=job)
            return RunReport(None, RunState.FAILED, f"this replica's clock is {skew}")
        while True:
            report = await self._tracked(self._run(spec, Cause.MANUAL))
            if report is not None or loop.time() > give_up:
                return report
            # The lock cannot be waited for without a connection of its own, so it is asked for again.
            await asyncio.sleep(patience / 20)

    async def _tracked(self, run: Awaitable[RunReport | None]) -> RunReport | None:
        task = asyncio.ensure_future(run)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _run(self, spec: JobSpec, cause: Cause) -> RunReport | None:
        async with self._lock.acquire(spec.name) as guard:
            if guard is None:
                return None

            def check() -> None:
                guard.check()
                self._steady.check()

            try:
                claim = await self._table.claim(spec.name, spec.interval, cause, spec.calendar, check)
                check()  # a claim may have waited long; one that is not used is the next replica's at once
            except LockLost as error:
                logger.bind(event="lock_lost", job=str(spec.name)).warning("{} does not run: {}", spec.name, error)
                return None
            if claim is None:
                return None
            with logger.contextualize(job=str(spec.name), run=claim.run_id):
                state, detail = await self._execution.run(spec, claim, guard)
        return RunReport(claim.run_id, state, detail)
