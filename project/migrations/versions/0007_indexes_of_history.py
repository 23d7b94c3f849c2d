"""no scan that grows with what is kept of the past"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_index("ix_job_run_running", "job_run", ["job"], postgresql_where=sa.text("state = 'running'"))
    op.create_index("ix_idle_spell_closed_at", "idle_spell", ["closed_at"])
    begun = sa.text("enforcing_at IS NOT NULL")
    op.create_index("ix_idle_spell_enforcing_at", "idle_spell", ["enforcing_at"], postgresql_where=begun)
    op.create_index("ix_command_planned_at", "command", ["planned_at"])
    sent = sa.text("published_at IS NOT NULL")
    op.create_index("ix_outbox_published_at", "outbox", ["published_at"], postgresql_where=sent)


def downgrade() -> None:
    op.drop_index("ix_outbox_published_at", "outbox")
    op.drop_index("ix_command_planned_at", "command")
    op.drop_index("ix_idle_spell_enforcing_at", "idle_spell")
    op.drop_index("ix_idle_spell_closed_at", "idle_spell")
    op.drop_index("ix_job_run_running", "job_run")
