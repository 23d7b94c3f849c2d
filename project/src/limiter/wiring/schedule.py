"""How often each job runs, and what runs them."""

from collections.abc import Sequence

from dishka import Provider, Scope, provide
from sqlalchemy import ColumnElement

from limiter.config.settings import Settings
from limiter.db import outbox
from limiter.domain.job import Job
from limiter.jobs.cleanup import Cleanup
from limiter.jobs.event_dispatch import EventDispatch
from limiter.jobs.idle_enforce import IdleEnforce
from limiter.jobs.idle_warning import IdleWarning
from limiter.jobs.rps_check import RpsCheck
from limiter.jobs.saga_poll import SagaPoll
from limiter.runner.job_table import JobTable
from limiter.runner.lock import JobLock
from limiter.runner.scheduler import JobScheduler
from limiter.runner.spec import JobBody, JobSpec
from limiter.telemetry import Telemetry
from limiter.wiring.times import utc_now


class Schedule(Provider):
    """The jobs as the scheduler knows them, and the scheduler."""

    scope = Scope.APP

    @provide
    def specs(
        self,
        settings: Settings,
        rps_check: RpsCheck,
        idle_warning: IdleWarning,
        idle_enforce: IdleEnforce,
        saga_poll: SagaPoll,
        event_dispatch: EventDispatch,
        cleanup: Cleanup,
    ) -> Sequence[JobSpec]:
        def spec(name: Job, body: JobBody, has_work: ColumnElement[bool] | None = None) -> JobSpec:
            return JobSpec(
                name=name,
                interval=settings.interval(name),
                longest_run=settings.longest_run(name),
                body=body,
                has_work=has_work,
                calendar=settings.calendar(name),
            )

        return (
            spec(Job.RPS_CHECK, rps_check),
            spec(Job.IDLE_WARNING, idle_warning),
            spec(Job.IDLE_ENFORCE, idle_enforce),
            spec(Job.SAGA_POLL, saga_poll),
            spec(Job.EVENT_DISPATCH, event_dispatch, outbox.has_work()),
            spec(Job.CLEANUP, cleanup),
        )

    @provide
    def scheduler(
        self, settings: Settings, specs: Sequence[JobSpec], lock: JobLock, table: JobTable, telemetry: Telemetry
    ) -> JobScheduler:
        return JobScheduler(
            specs=specs,
            lock=lock,
            table=table,
            clock=utc_now,
            telemetry=telemetry,
            longest_tick=settings.tick_longest_seconds,
            skew_limit=settings.clock_skew_limit_seconds,
        )
