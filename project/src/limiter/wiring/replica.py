"""The parts of a replica."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.api.broker import Consumer
from limiter.api.health import Health
from limiter.runner.job_table import JobTable
from limiter.runner.lock import JobLock
from limiter.runner.scheduler import JobScheduler
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Replica:
    """The parts of a replica that its life is made of."""

    engine: AsyncEngine
    lock: JobLock
    table: JobTable
    scheduler: JobScheduler
    consumer: Consumer
    health: Health
    telemetry: Telemetry
