"""warnings name their slots; keeps, surges, pauses with their author, and when a command was sent

Of a warning delivered before this migration no slot is known to be named, so nothing is cancelled on its account: it is
withdrawn. A spell that is already being enforced goes on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.drop_column("cancellation", "whole")
    op.add_column("cancellation", sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("cancellation", _time("next_try_at"))
    op.add_column("idle_spell", sa.Column("stopped_for", sa.Text(), nullable=True))
    op.add_column("idle_spell", _time("enforcing_at"))
    op.add_column("idle_spell", _time("settled_at"))
    op.execute("UPDATE idle_spell SET enforcing_at = opened_at WHERE state IN ('enforcing', 'enforced')")
    # Every closing of a warning is a withdrawal now, with its reason.
    op.execute("UPDATE idle_spell SET state = 'withdrawn' WHERE state = 'expired'")
    op.add_column("command", _time("sent_at"))
    # Whether they were sent is not known any more: as if they had been, so that none is repeated blindly.
    op.execute("UPDATE command SET sent_at = planned_at WHERE state <> 'dry_run'")
    op.add_column("job", _time("paused_at"))
    op.add_column("job", sa.Column("paused_by", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("paused_reason", sa.Text(), nullable=True))
    op.add_column("target", _time("matched_at"))
    op.add_column("target", sa.Column("page_digest", sa.BigInteger(), nullable=True))
    op.add_column("target", sa.Column("stale", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_table(
        "keep",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        _time("since", nullable=False),
        _time("until", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_keep"),
    )
    op.create_index("ix_keep_until", "keep", ["until"])
    op.create_table(
        "surge",
        sa.Column("kind", sa.Text(), nullable=False),
        _time("since", nullable=False),
        _time("allowed_at"),
        sa.Column("allowed_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("kind", name="pk_surge"),
    )


def downgrade() -> None:
    # 1.0.0 cannot read a reason that it does not know: all its runs of the idle jobs would fail.
    op.execute("""
        DELETE FROM decision WHERE reason NOT IN (
            'above_max', 'address_unknown', 'at_max', 'backing_off', 'below_min', 'between_slots', 'booked_soon',
            'booking_gone', 'bookings_unreadable', 'command_unfinished', 'cooling_down', 'deadline_passed', 'exempt',
            'held_by_another', 'in_use', 'mode_changed', 'model_gone', 'not_seen_running', 'nothing_to_cancel',
            'overloaded', 'reading_unknown', 'refused', 'run_limit', 'stabilizing', 'underused', 'unused',
            'used_again', 'warned_waiting', 'warning_undelivered', 'within_target'
        )
    """)
    op.drop_table("surge")
    op.drop_table("keep")
    for table, column in (
        ("target", "stale"),
        ("target", "page_digest"),
        ("target", "matched_at"),
        ("job", "paused_reason"),
        ("job", "paused_by"),
        ("job", "paused_at"),
        ("command", "sent_at"),
        ("idle_spell", "settled_at"),
        ("idle_spell", "enforcing_at"),
        ("idle_spell", "stopped_for"),
        ("cancellation", "next_try_at"),
        ("cancellation", "attempts"),
    ):
        op.drop_column(table, column)
    op.execute("DELETE FROM cancellation WHERE state IN ('named', 'already_gone')")
    op.add_column("cancellation", sa.Column("whole", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.alter_column("cancellation", "whole", server_default=None)
