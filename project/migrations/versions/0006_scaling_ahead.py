"""how long sagas last, and how much a model carried at most while it was underused"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("scaling_state", sa.Column("underused_peak", sa.Float(), nullable=True))
    op.create_table(
        "saga_time",
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("seconds", sa.ARRAY(sa.Float()), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model_name", "kind", name="pk_saga_time"),
    )


def downgrade() -> None:
    op.drop_table("saga_time")
    op.drop_column("scaling_state", "underused_peak")
