"""plain names: scaling_state, idle_spell, and what a run's columns mean

The tables and columns keep their rows. Replicas of the version before cannot work on them: stop them first.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = (("sighting", "scaling_state"), ("spell", "idle_spell"))
COLUMNS = (
    ("scaling_state", "up_since", "overloaded_since"),
    ("scaling_state", "down_since", "underused_since"),
    ("job_run", "slot", "due_slot"),
    ("job_run", "holder", "replica_id"),
)
INDEXES = (
    ("pk_sighting", "pk_scaling_state"),
    ("pk_spell", "pk_idle_spell"),
    ("uq_spell_open", "uq_idle_spell_open"),
    ("ix_spell_model_id_user_id_closed_at", "ix_idle_spell_model_id_user_id_closed_at"),
)


def upgrade() -> None:
    for old, new in TABLES:
        op.rename_table(old, new)
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")


def downgrade() -> None:
    for old, new in INDEXES:
        op.execute(f"ALTER INDEX {new} RENAME TO {old}")
    for table, old, new in COLUMNS:
        op.alter_column(table, new, new_column_name=old)
    for old, new in TABLES:
        op.rename_table(new, old)
