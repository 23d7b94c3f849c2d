"""The lock of a job: who may run it now.

A transaction-scoped advisory lock, in a guard transaction that stays open for the run. The guard transaction runs
nothing but the lock and its heartbeat: an SQL error in it would drop the lock silently. The heartbeat repeats
`SET LOCAL idle_in_transaction_session_timeout`, which frees the lock of a frozen runner, and, being a utility
statement, leaves no snapshot open that would keep vacuum back. A standby has locks too, its own ones: what is taken
there keeps nobody from running the job.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db.engine import READ_ONLY
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
            if not await self._taken(connection, job):
                yield None
                return
            guard = Guard(connection, timing=self.keys.timing, mark=self.keys.mark(job), confirmed_at=confirmed_at)
            await guard.refresh()
            async with watched(connection, guard):
                yield guard

    async def _taken(self, connection: AsyncConnection, job: Job) -> bool:
        """Whether we have the lock now; raises ConnectionError, and lets go of it, where the server only reads."""
        lock = func.pg_try_advisory_xact_lock(*self.keys.lock(job))
        reads_only = func.current_setting("transaction_read_only")
        attempt = select(lock, reads_only, idle_limit(self.keys.timing.idle_timeout))
        taken, read_only, _ = (await connection.execute(attempt)).one()
        if read_only == "on":
            await connection.invalidate()  # by now the same name may lead to the new primary
            raise ConnectionError(READ_ONLY)
        return bool(taken)
