"""The lock of a job: who may run it now.

A transaction-scoped advisory lock, in a guard transaction that stays open for the run. The guard transaction runs
nothing but the lock and its heartbeat: an SQL error in it would drop the lock silently. The heartbeat repeats
`SET LOCAL idle_in_transaction_session_timeout`, which frees the lock of a frozen runner, and, being a utility
statement, leaves no snapshot open that would keep vacuum back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.domain.job import Job
from limiter.runner.guard import Guard, watched
from limiter.runner.keys import LockKeys, idle_limit


@dataclass(frozen=True)
class JobLock:
    """Takes the locks of jobs, over connections that are kept for nothing else."""

    guards: AsyncEngine
    keys: LockKeys

    @asynccontextmanager
    async def acquire(self, job: Job) -> AsyncIterator[Guard | None]:
        """Keep the job's lock for the length of the block; None if another replica has it."""
        async with self.guards.connect() as connection:
            confirmed_at = asyncio.get_running_loop().time()
            timing = self.keys.timing
            attempt = select(func.pg_try_advisory_xact_lock(*self.keys.lock(job)), idle_limit(timing.idle_timeout))
            if not await connection.scalar(attempt):
                yield None
                return
            guard = Guard(connection, timing=timing, mark=self.keys.mark(job), confirmed_at=confirmed_at)
            await guard.refresh()
            async with watched(connection, guard):
                yield guard
