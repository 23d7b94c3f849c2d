"""under which settings a target was read; of the rows there are, it is not known"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("target", sa.Column("read_as", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("target", "read_as")
