"""Decisions, commands to the dispatcher, and events to users."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Identity, Index, Integer, Table, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB

from limiter.db.tables.metadata import metadata, time

decision = Table(
    "decision",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    time("decided_at"),
    Column("model_id", Uuid, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("user_id", Uuid),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("numbers", JSONB, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("stands", Boolean, nullable=False),
)
Index("ix_decision_model_name_id", decision.c.model_name, decision.c.id)
Index("ix_decision_decided_at", decision.c.decided_at)
Index("ix_decision_stands", decision.c.model_id, decision.c.user_id, postgresql_where=text("stands"))

command = Table(
    "command",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("model_id", Uuid, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("replicas", Integer),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    time("planned_at"),
    time("sent_at", nullable=True),
    time("finished_at", nullable=True),
    Column("saga_id", Uuid),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("spell_id", Uuid),
    Column("error", Text),
)
UNFINISHED_SQL = "state IN ('planned', 'submitted', 'stuck')"
Index("uq_command_unfinished", command.c.model_id, unique=True, postgresql_where=text(UNFINISHED_SQL))
Index("ix_command_model_id_planned_at", command.c.model_id, command.c.planned_at)
Index("ix_command_spell_id", command.c.spell_id)
Index("ix_command_planned_at", command.c.planned_at)

outbox = Table(
    "outbox",
    metadata,
    Column("sequence", BigInteger, Identity(), primary_key=True),
    Column("message_id", Uuid, nullable=False, unique=True),
    Column("spell_id", Uuid),
    Column("stage", Text, nullable=False),
    Column("routing_key", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    time("published_at", nullable=True),
    Column("error", Text),
)
Index("ix_outbox_pending", outbox.c.sequence, postgresql_where=text("published_at IS NULL"))
Index("ix_outbox_published_at", outbox.c.published_at, postgresql_where=text("published_at IS NOT NULL"))
Index("ix_outbox_spell_id", outbox.c.spell_id)
