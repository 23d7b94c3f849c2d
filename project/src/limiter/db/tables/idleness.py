"""Idle spells, what is cancelled for them, and the users they concern."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from limiter.db.tables.metadata import metadata, time

idle_spell = Table(
    "idle_spell",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("model_id", Uuid, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    time("idle_since"),
    time("opened_at"),
    time("not_before"),
    time("delivered_at", nullable=True),
    time("closed_at", nullable=True),
    Column("reservation_id", Text, nullable=False),
    Column("slot_id", Text, nullable=False),
    time("slot_start"),
    time("slot_end"),
    Column("dry_run", Boolean, nullable=False),
    Column("stopped_for", Text),
    time("enforcing_at", nullable=True),
    time("settled_at", nullable=True),
)
OPEN_SQL = "state IN ('warning_pending', 'warned', 'enforcing')"
Index("uq_idle_spell_open", idle_spell.c.model_id, idle_spell.c.user_id, unique=True, postgresql_where=text(OPEN_SQL))
Index("ix_idle_spell_model_id_user_id_closed_at", idle_spell.c.model_id, idle_spell.c.user_id, idle_spell.c.closed_at)
Index("ix_idle_spell_closed_at", idle_spell.c.closed_at)
Index("ix_idle_spell_enforcing_at", idle_spell.c.enforcing_at, postgresql_where=text("enforcing_at IS NOT NULL"))

cancellation = Table(
    "cancellation",
    metadata,
    Column("spell_id", Uuid, ForeignKey("idle_spell.id", ondelete="CASCADE"), primary_key=True),
    Column("slot_id", Text, primary_key=True),
    Column("reservation_id", Text, primary_key=True),
    time("slot_start"),
    time("slot_end"),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    time("next_try_at", nullable=True),
    time("in_flight_until", nullable=True),
    Column("error", Text),
)

keep = Table(
    "keep",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("user_id", Uuid),
    time("since"),
    time("until"),
    Column("reason", Text),
    Column("by", Text),
)
Index("ix_keep_until", keep.c.until)

surge = Table(
    "surge",
    metadata,
    Column("kind", Text, primary_key=True),
    time("since"),
    time("allowed_at", nullable=True),
    Column("allowed_by", Text),
)

contact = Table(
    "contact",
    metadata,
    Column("user_id", Uuid, primary_key=True),
    Column("user_name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("learned_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

reminder = Table(
    "reminder",
    metadata,
    Column("reservation_id", Text, primary_key=True),
    Column("model_id", Uuid, primary_key=True),
    Column("noted_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
