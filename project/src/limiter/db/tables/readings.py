"""What rps_check remembers: readings, use, gaps, and the state of scaling."""

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, DateTime, Float, Integer, Table, Text, Uuid, false

from limiter.db.tables.metadata import metadata, time

# Rows rewritten on every tick: half-empty pages (fillfactor) let Postgres update them in place, and only the primary
# key is indexed, since an index on a changing column would forbid that.
target = Table(
    "target",
    metadata,
    Column("target", Text, primary_key=True),
    time("first_read_at"),
    time("read_at"),
    Column("started_at", Float),
    Column("rate", Float, nullable=False),
    Column("silent", Boolean, nullable=False, server_default=false()),
    time("matched_at", nullable=True),
    Column("page_digest", BigInteger),
    Column("stale", Boolean, nullable=False, server_default=false()),
    Column("read_as", Text),
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
    time("last_used_at"),
    Column("samples", Text, nullable=False),
    postgresql_with={"fillfactor": 50},
)

gap = Table(
    "gap",
    metadata,
    Column("target", Text, primary_key=True),
    Column("since", DateTime(timezone=True), primary_key=True),
    time("until"),
)

scaling_state = Table(
    "scaling_state",
    metadata,
    Column("model_id", Uuid, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("replicas", Integer, nullable=False),
    time("first_seen_at"),
    time("overloaded_since", nullable=True),
    time("underused_since", nullable=True),
    Column("standing", Text),
    Column("underused_peak", Float),
    postgresql_with={"fillfactor": 50},
)

saga_time = Table(
    "saga_time",
    metadata,
    Column("model_name", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("seconds", ARRAY(Float), nullable=False),
    time("noted_at"),
)
