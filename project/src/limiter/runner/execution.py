"""The one wrapper around every run: its time limit, its ending, what is counted and recorded of it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from loguru import logger

from limiter.db.engine import DATABASE_ERRORS, MISTAKES, describe, reason_of
from limiter.runner.claim import Claim, RunState
from limiter.runner.guard import Guard, LockLost
from limiter.runner.job_table import JobTable
from limiter.runner.run import Run, let_go
from limiter.runner.spec import JobSpec
from limiter.runner.steady import SteadyClock
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Execution:
    """Runs claimed jobs, each as long as its lock is ours."""

    table: JobTable
    clock: SteadyClock
    telemetry: Telemetry

    async def run(self, spec: JobSpec, claim: Claim, guard: Guard) -> tuple[RunState, str | None]:
        """Run the job and record how the run ended; returns that and the detail."""
        if claim.missed and spec.has_work is None:
            self.telemetry.missed(claim.job, claim.missed)
            logger.bind(event="intervals_missed", missed=claim.missed).warning("no replica ran the job in time")
        if claim.lost:
            logger.bind(event="run_lost").warning("an earlier run was lost with its replica; its work goes on here")
        loop = asyncio.get_running_loop()
        started = loop.time()
        logger.bind(event="run_started", cause=str(claim.cause)).debug("run started")
        run = Run(claim, self.clock.now(), guard, self.table.engine, self.telemetry, self.clock)
        with self.telemetry.run_span(claim.job, claim.epoch):
            state, detail = await self._body(spec, run)
        seconds = loop.time() - started
        self.telemetry.run_ended(claim.job, state, seconds, self.clock.now().timestamp())
        level = "DEBUG" if state is RunState.COMPLETED else "WARNING"
        ended = logger.bind(event="run_ended", state=str(state), seconds=round(seconds, 3))
        ended.log(level, "{} {}", claim.job, state)
        if state is not RunState.LOST:
            await self.table.finish(claim, state, detail)
        return state, detail

    async def _body(self, spec: JobSpec, run: Run) -> tuple[RunState, str | None]:
        """Run the job's body in a task of its own, which a lost lock, its longest run, or a stop can cancel."""
        body = asyncio.ensure_future(spec.body(run))
        run.guard.on_lost = body.cancel
        interrupted = False
        try:
            await asyncio.wait({body}, timeout=spec.longest_run)
        except asyncio.CancelledError:
            interrupted = True
        over_time = not body.done() and not interrupted
        body.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({body})
        error = None if body.cancelled() else body.exception()
        if run.guard.lost is not None:
            return self._lost(run.guard.lost)
        if body.cancelled():
            return (RunState.TIMEOUT, self._too_long(spec)) if over_time else (RunState.INTERRUPTED, "stopping")
        return self._judge(error)

    def _judge(self, error: BaseException | None) -> tuple[RunState, str | None]:
        if error is None:
            return RunState.COMPLETED, None
        if isinstance(error, LockLost):
            return self._lost(str(error))
        text, reason = describe(error), getattr(error, "reason", None)
        if reason is None:
            away = isinstance(error, DATABASE_ERRORS) and not isinstance(error, MISTAKES)
            reason = reason_of(error) if away else "run_failed"
            logger.opt(exception=error).debug("run failed")
        self.telemetry.critical(reason, text)
        let_go(error)
        return RunState.FAILED, text

    def _lost(self, why: str) -> tuple[RunState, str]:
        """Nothing is recorded of it but by whoever takes over, so only the log says why."""
        logger.bind(event="lock_lost").warning("{}", why)
        return RunState.LOST, why

    def _too_long(self, spec: JobSpec) -> str:
        detail = f"broken off after {spec.longest_run:g} s"
        self.telemetry.critical("run_too_long", detail)
        return detail
