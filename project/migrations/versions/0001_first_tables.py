"""first tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "command",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("saga_id", sa.Uuid(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("spell_id", sa.Uuid(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command")),
    )
    op.create_index("ix_command_model_id_planned_at", "command", ["model_id", "planned_at"], unique=False)
    op.create_index("ix_command_spell_id", "command", ["spell_id"], unique=False)
    op.create_index(
        "uq_command_unfinished",
        "command",
        ["model_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('planned', 'submitted', 'stuck')"),
    )
    op.create_table(
        "contact",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_contact")),
    )
    op.create_table(
        "gap",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", "since", name=op.f("pk_gap")),
    )
    op.create_table(
        "job",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("running_epoch", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job")),
    )
    op.create_table(
        "job_run",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job", "epoch", name=op.f("pk_job_run")),
    )
    op.create_index("ix_job_run_started_at", "job_run", ["started_at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("spell_id", sa.Uuid(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("routing_key", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_outbox")),
        sa.UniqueConstraint("message_id", name=op.f("uq_outbox_message_id")),
    )
    op.create_index(
        "ix_outbox_pending", "outbox", ["sequence"], unique=False, postgresql_where=sa.text("published_at IS NULL")
    )
    op.create_index("ix_outbox_spell_id", "outbox", ["spell_id"], unique=False)
    op.create_table(
        "reminder",
        sa.Column("reservation_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("reservation_id", "model_id", name=op.f("pk_reminder")),
    )
    op.create_table(
        "series",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("target", "series", name=op.f("pk_series")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "sighting",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("up_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("down_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_sighting")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "spell",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("idle_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reservation_id", sa.Text(), nullable=False),
        sa.Column("slot_id", sa.Text(), nullable=False),
        sa.Column("slot_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("slot_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spell")),
    )
    op.create_index("ix_spell_model_id_user_id_closed_at", "spell", ["model_id", "user_id", "closed_at"], unique=False)
    op.create_index(
        "uq_spell_open",
        "spell",
        ["model_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('warning_pending', 'warned', 'enforcing')"),
    )
    op.create_table(
        "target",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("first_read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_target")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "usage",
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("samples", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model_name", name=op.f("pk_usage")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "cancellation",
        sa.Column("spell_id", sa.Uuid(), nullable=False),
        sa.Column("slot_id", sa.Text(), nullable=False),
        sa.Column("reservation_id", sa.Text(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("slot_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("slot_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["spell_id"], ["spell.id"], name=op.f("fk_cancellation"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("spell_id", "slot_id", "reservation_id", name=op.f("pk_cancellation")),
    )


def downgrade() -> None:
    op.drop_table("cancellation")
    op.drop_table("usage")
    op.drop_table("target")
    op.drop_index(
        "uq_spell_open",
        table_name="spell",
        postgresql_where=sa.text("state IN ('warning_pending', 'warned', 'enforcing')"),
    )
    op.drop_index("ix_spell_model_id_user_id_closed_at", table_name="spell")
    op.drop_table("spell")
    op.drop_table("sighting")
    op.drop_table("series")
    op.drop_table("reminder")
    op.drop_index("ix_outbox_spell_id", table_name="outbox")
    op.drop_index("ix_outbox_pending", table_name="outbox", postgresql_where=sa.text("published_at IS NULL"))
    op.drop_table("outbox")
    op.drop_index("ix_job_run_started_at", table_name="job_run")
    op.drop_table("job_run")
    op.drop_table("job")
    op.drop_table("gap")
    op.drop_table("contact")
    op.drop_index(
        "uq_command_unfinished",
        table_name="command",
        postgresql_where=sa.text("state IN ('planned', 'submitted', 'stuck')"),
    )
    op.drop_index("ix_command_spell_id", table_name="command")
    op.drop_index("ix_command_model_id_planned_at", table_name="command")
    op.drop_table("command")
