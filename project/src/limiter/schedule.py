"""The timetable: APScheduler ticks, Postgres says what is due and who runs it, one wrapper runs every job."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from loguru import logger

from limiter.db import outbox
from limiter.db.engine import DATABASE_ERRORS, MISTAKES, explain
from limiter.db.guard import Guard, LockLost
from limiter.db.locks import Cause, Claim, Locks, RunState
from limiter.db.runs import Run
from limiter.domain.action import Job
from limiter.telemetry import Telemetry

TICKS_PER_INTERVAL = 4  # a replica that takes over must not wait a whole interval

JobBody = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Cadence:
    """Seconds: how often a job runs, and when a run of it is broken off."""

    every: float
    max_run: float


@dataclass(frozen=True, slots=True)
class Report:
    """How one run ended."""

    run_id: str
    state: RunState
    detail: str | None = None


class Timetable:
    """All jobs of one replica; whichever replica's tick finds a job due and its lock free runs it."""

    def __init__(
        self,
        locks: Locks,
        jobs: Mapping[Job, JobBody],
        cadences: Mapping[Job, Cadence],
        clock: Callable[[], datetime],
        telemetry: Telemetry,
        longest_tick: float,
        skew_limit: float,
    ) -> None:
        self._locks = locks
        self._jobs = jobs
        self._cadences = cadences
        self._clock = clock
        self._telemetry = telemetry
        self._longest_tick = longest_tick
        self._skew_limit = skew_limit
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._running: set[asyncio.Task[Report | None]] = set()
        self._beat_at: float | None = None
        self.draining = False
        self.skewed = False

    def start(self) -> None:
        """Begin to tick; each replica at its own phase, so that they do not all ask at once."""
        options = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        self._scheduler.add_job(self._beat, "interval", seconds=1, id="heartbeat", **options)
        for job, cadence in self._cadences.items():
            seconds = min(cadence.every / TICKS_PER_INTERVAL, self._longest_tick)
            first = datetime.now(UTC) + timedelta(seconds=random.uniform(0, seconds))  # noqa: S311 - a phase, no secret
            self._scheduler.add_job(
                self.tick, "interval", seconds=seconds, args=[job], id=job, next_run_time=first, **options
            )
        self._scheduler.start()
        self._beat_at = asyncio.get_running_loop().time()

    async def _beat(self) -> None:
        self._beat_at = asyncio.get_running_loop().time()

    def silent_for(self) -> float | None:
        """Seconds since the scheduler last proved that it ticks; None before it was started."""
        return None if self._beat_at is None else asyncio.get_running_loop().time() - self._beat_at

    async def stop(self, patience: float) -> None:
        """Start no more runs, give running ones `patience` seconds, then interrupt them."""
        self.draining = True
        if self._scheduler.running:
            self._scheduler.pause()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def tick(self, job: Job) -> None:
        """Run the job if it is due and no other replica runs it."""
        if not self.draining:
            await self._tracked(self._tick(job))

    async def _tick(self, job: Job) -> Report | None:
        try:
            return await self._run(job, Cause.SCHEDULE) if await self._is_due(job) else None
        except DATABASE_ERRORS as error:
            self._telemetry.critical("database_unavailable", explain(error), job=job)
            return None

    async def _is_due(self, job: Job) -> bool:
        work = outbox.has_work() if job is Job.EVENT_DISPATCH else None
        due = await self._locks.due(job, self._cadences[job].every, work)
        skew = abs((self._clock() - due.database_time).total_seconds())
        self.skewed = 0 < self._skew_limit < skew
        if self.skewed and due.due:
            # A clock that is wrong would warn and cancel at wrong times: better another replica runs this.
            self._telemetry.critical("clock_skew", f"{skew:.0f} s off the database's clock", job=job)
        return due.due and not self.skewed

    async def by_hand(self, job: Job, patience: float) -> Report | None:
        """Run the job now, due or not, paused or not; None if others held its lock for `patience` seconds."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + patience
        while True:
            report = await self._tracked(self._run(job, Cause.MANUAL))
            if report is not None or loop.time() > give_up:
                return report
            # The lock cannot be waited for without a connection of its own, so it is asked for again.
            await asyncio.sleep(patience / 20)

    async def _tracked(self, run: Awaitable[Report | None]) -> Report | None:
        task = asyncio.ensure_future(run)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _run(self, job: Job, cause: Cause) -> Report | None:
        async with self._locks.hold(job) as guard:
            if guard is None:
                return None
            claim = await self._locks.claim(job, self._cadences[job].every, cause)
            if claim is None:
                return None
            with logger.contextualize(job=str(job), run=claim.run_id):
                return await self._claimed(claim, guard)

    async def _claimed(self, claim: Claim, guard: Guard) -> Report:
        if claim.missed and claim.job is not Job.EVENT_DISPATCH:  # which only runs when there is something to send
            self._telemetry.missed(claim.job, claim.missed)
            logger.bind(event="intervals_missed", missed=claim.missed).warning("no replica ran the job in time")
        if claim.lost:
            logger.bind(event="run_lost").warning("an earlier run was lost with its replica; its work goes on here")
        loop = asyncio.get_running_loop()
        started = loop.time()
        logger.bind(event="run_started", cause=str(claim.cause)).debug("run started")
        state, detail = await self._body(claim, guard)
        seconds = loop.time() - started
        self._telemetry.run_ended(claim.job, state, seconds, self._clock().timestamp())
        level = "DEBUG" if state is RunState.COMPLETED else "WARNING"
        logger.bind(event="run_ended", state=str(state), seconds=round(seconds, 3)).log(
            level, "{} {}", claim.job, state
        )
        if state is not RunState.LOST:
            await self._locks.finish(claim, state, detail)
        return Report(claim.run_id, state, detail)

    async def _body(self, claim: Claim, guard: Guard) -> tuple[RunState, str | None]:
        """Run the job's body in a task of its own, which a lost lock, its longest run, or a stop can cancel."""
        run = Run(claim, self._clock(), guard, self._locks.engine, self._telemetry)
        body = asyncio.ensure_future(self._jobs[claim.job](run))
        guard.on_lost = body.cancel
        interrupted = False
        try:
            await asyncio.wait({body}, timeout=self._cadences[claim.job].max_run)
        except asyncio.CancelledError:
            interrupted = True
        over_time = not body.done() and not interrupted
        body.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({body})
        error = None if body.cancelled() else body.exception()
        if guard.lost is not None:
            return RunState.LOST, guard.lost
        if body.cancelled():
            return (RunState.TIMEOUT, self._too_long(claim)) if over_time else (RunState.INTERRUPTED, "stopping")
        return self._judge(claim, error)

    def _judge(self, claim: Claim, error: BaseException | None) -> tuple[RunState, str | None]:
        if error is None:
            return RunState.COMPLETED, None
        if isinstance(error, LockLost):
            logger.bind(event="lock_lost").warning("{}", error)
            return RunState.LOST, str(error)
        text, reason = explain(error), getattr(error, "reason", None)
        if reason is None:
            away = isinstance(error, DATABASE_ERRORS) and not isinstance(error, MISTAKES)
            reason = "database_unavailable" if away else "run_failed"
            logger.opt(exception=error).debug("run failed")
        self._telemetry.critical(reason, text)
        return RunState.FAILED, text

    def _too_long(self, claim: Claim) -> str:
        detail = f"broken off after {self._cadences[claim.job].max_run:g} s"
        self._telemetry.critical("run_too_long", detail)
        return detail
