"""A run in the rows of its job and in its own: begun, ended, lost."""

from sqlalchemy import Update, and_, exists, func, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import job as jobs
from limiter.db.tables import job_run
from limiter.domain.job import Job
from limiter.runner.claim import Cause, Claim, RunState
from limiter.runner.due import Turn


async def begin(connection: AsyncConnection, claim: Claim, turn: Turn) -> None:
    """The run is claimed: its job's epoch is raised, and it has a row of its own."""
    await connection.execute(_claim(claim, turn))
    run = {"job": claim.job, "epoch": claim.epoch, "due_slot": turn.slot, "cause": claim.cause}
    run |= {"replica_id": claim.replica_id, "state": RunState.RUNNING}
    await connection.execute(insert(job_run).values(run))


def _claim(claim: Claim, turn: Turn) -> Update:
    values: dict[str, object] = {"epoch": claim.epoch, "running_epoch": claim.epoch}
    if claim.cause is Cause.SCHEDULE:
        values |= {"next_due_at": turn.following, "attempts": 1}
    elif claim.cause is Cause.ORPHAN:
        values |= {"attempts": jobs.c.attempts + 1}
    return update(jobs).where(jobs.c.name == claim.job).values(values)


async def mark_lost(connection: AsyncConnection, job: Job) -> int:
    """Runs still `running` although we have their lock have lost it; returns how many."""
    running = and_(job_run.c.job == job, job_run.c.state == RunState.RUNNING)
    ended = {"state": RunState.LOST, "ended_at": func.now()}
    return (await connection.execute(update(job_run).where(running).values(ended))).rowcount


async def end(connection: AsyncConnection, claim: Claim, state: RunState, error: str | None) -> None:
    """The run has ended; an interrupted one stays claimed, so that another replica resumes it at once."""
    ours = and_(
        job_run.c.job == claim.job,
        job_run.c.epoch == claim.epoch,
        job_run.c.replica_id == claim.replica_id,
    )
    running = and_(ours, job_run.c.state == RunState.RUNNING)
    ended = {"state": state, "ended_at": func.now(), "error": error}
    await connection.execute(update(job_run).where(running).values(ended))
    if state is not RunState.INTERRUPTED:
        mine = and_(jobs.c.name == claim.job, jobs.c.epoch == claim.epoch, exists().where(ours))
        await connection.execute(update(jobs).where(mine).values(running_epoch=None))
