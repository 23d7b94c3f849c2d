"""until when a DELETE that was sent may still be carried out; of those sent before, it is not known"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("cancellation", sa.Column("in_flight_until", sa.TIMESTAMP(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("cancellation", "in_flight_until")
