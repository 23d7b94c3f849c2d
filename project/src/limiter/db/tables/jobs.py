"""When each job is due, and every run of it."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, Table, Text, Uuid, false, func, text

from limiter.db.tables.metadata import metadata, time

job = Table(
    "job",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    time("next_due_at"),
    Column("running_epoch", BigInteger),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("paused", Boolean, nullable=False, server_default=false()),
    time("resumed_at", nullable=True),
    time("paused_at", nullable=True),
    Column("paused_by", Text),
    Column("paused_reason", Text),
)

job_run = Table(
    "job_run",
    metadata,
    Column("job", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    time("due_slot"),
    Column("cause", Text, nullable=False),
    Column("replica_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    time("ended_at", nullable=True),
    Column("error", Text),
)
Index("ix_job_run_started_at", job_run.c.started_at)
Index("ix_job_run_running", job_run.c.job, postgresql_where=text("state = 'running'"))
