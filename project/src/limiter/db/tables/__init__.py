"""The tables, one module a subject."""

from limiter.db.tables.effects import UNFINISHED_SQL, command, decision, outbox
from limiter.db.tables.idleness import OPEN_SQL, cancellation, contact, idle_spell, keep, reminder, surge
from limiter.db.tables.jobs import job, job_run
from limiter.db.tables.metadata import metadata
from limiter.db.tables.readings import gap, saga_time, scaling_state, series, target, usage

REVISION = "0009"  # what the service needs; a test keeps it equal to alembic's newest

__all__ = [
    "OPEN_SQL",
    "REVISION",
    "UNFINISHED_SQL",
    "cancellation",
    "command",
    "contact",
    "decision",
    "gap",
    "idle_spell",
    "job",
    "job_run",
    "keep",
    "metadata",
    "outbox",
    "reminder",
    "saga_time",
    "scaling_state",
    "series",
    "surge",
    "target",
    "usage",
]
