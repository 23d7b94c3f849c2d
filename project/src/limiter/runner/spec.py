"""What the scheduler knows of a job."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from apscheduler.triggers.cron import CronTrigger
from sqlalchemy import ColumnElement

from limiter.domain.job import Job
from limiter.runner.run import Run

JobBody = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job: it runs every `interval` seconds, and a run longer than `longest_run` seconds is broken off.

    With a `calendar` it runs at the fire times of that, and the interval is of no account.
    A job with `has_work`, a condition asked in SQL, only runs while that holds; its unused intervals count as no miss.
    """

    name: Job
    interval: float
    longest_run: float
    body: JobBody
    has_work: ColumnElement[bool] | None = None
    calendar: CronTrigger | None = None
