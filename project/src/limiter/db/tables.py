"""The tables. They carry no schema name: the engine maps it in at run time, migrations set it as their search path."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

REVISION = "0003"  # what the service needs; a test keeps it equal to alembic's newest


NAMES = {"pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s", "fk": "fk_%(table_name)s"}
metadata = MetaData(naming_convention=NAMES)


def _time(name: str, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


job = Table(
    "job",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    _time("next_due_at"),
    Column("running_epoch", BigInteger),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("paused", Boolean, nullable=False, server_default=false()),
    _time("resumed_at", nullable=True),
)

job_run = Table(
    "job_run",
    metadata,
    Column("job", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    _time("slot"),
    Column("cause", Text, nullable=False),
    Column("holder", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    _time("ended_at", nullable=True),
    Column("error", Text),
)
Index("ix_job_run_started_at", job_run.c.started_at)

# Rows rewritten on every tick: half-empty pages (fillfactor) let Postgres update them in place, and only the primary
# key is indexed, since an index on a changing column would forbid that.
target = Table(
    "target",
    metadata,
    Column("target", Text, primary_key=True),
    _time("first_read_at"),
    _time("read_at"),
    Column("started_at", Float),
    Column("rate", Float, nullable=False),
    Column("silent", Boolean, nullable=False, server_default=false()),
    postgresql_with={"fillfactor": 50},
)

series = Table(
    "series",
    metadata,
    Column("target", Text, primary_key=True),
    Column("series", Text, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("value", Float, nullable=False),
    postgresql_with={"fillfactor": 50},
)

usage = Table(
    "usage",
    metadata,
    Column("model_name", Text, primary_key=True),
    _time("last_used_at"),
    Column("samples", Text, nullable=False),
    postgresql_with={"fillfactor": 50},
)

gap = Table(
    "gap",
    metadata,
    Column("target", Text, primary_key=True),
    Column("since", DateTime(timezone=True), primary_key=True),
    _time("until"),
)

sighting = Table(
    "sighting",
    metadata,
    Column("model_id", Uuid, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("replicas", Integer, nullable=False),
    _time("first_seen_at"),
    _time("up_since", nullable=True),
    _time("down_since", nullable=True),
    Column("standing", Text),
    postgresql_with={"fillfactor": 50},
)

decision = Table(
    "decision",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _time("decided_at"),
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
    _time("planned_at"),
    _time("finished_at", nullable=True),
    Column("saga_id", Uuid),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("spell_id", Uuid),
    Column("error", Text),
)
UNFINISHED_SQL = "state IN ('planned', 'submitted', 'stuck')"
Index("uq_command_unfinished", command.c.model_id, unique=True, postgresql_where=text(UNFINISHED_SQL))
Index("ix_command_model_id_planned_at", command.c.model_id, command.c.planned_at)
Index("ix_command_spell_id", command.c.spell_id)

spell = Table(
    "spell",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("model_id", Uuid, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _time("idle_since"),
    _time("opened_at"),
    _time("not_before"),
    _time("delivered_at", nullable=True),
    _time("closed_at", nullable=True),
    Column("reservation_id", Text, nullable=False),
    Column("slot_id", Text, nullable=False),
    _time("slot_start"),
    _time("slot_end"),
    Column("dry_run", Boolean, nullable=False),
)
OPEN_SQL = "state IN ('warning_pending', 'warned', 'enforcing')"
Index("uq_spell_open", spell.c.model_id, spell.c.user_id, unique=True, postgresql_where=text(OPEN_SQL))
Index("ix_spell_model_id_user_id_closed_at", spell.c.model_id, spell.c.user_id, spell.c.closed_at)

cancellation = Table(
    "cancellation",
    metadata,
    Column("spell_id", Uuid, ForeignKey("spell.id", ondelete="CASCADE"), primary_key=True),
    Column("slot_id", Text, primary_key=True),
    Column("reservation_id", Text, primary_key=True),
    Column("whole", Boolean, nullable=False),
    _time("slot_start"),
    _time("slot_end"),
    Column("state", Text, nullable=False),
    Column("error", Text),
)

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
    _time("published_at", nullable=True),
    Column("error", Text),
)
Index("ix_outbox_pending", outbox.c.sequence, postgresql_where=text("published_at IS NULL"))
Index("ix_outbox_spell_id", outbox.c.spell_id)

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
