"""What the events that are not published yet wait for: an earlier one, the end of the quiet hours, or the broker."""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, FromClause, Select, Text, cast, extract, func, select, true

from limiter.db.tables import outbox
from limiter.domain.decision import Reason

HELD_BACK = "held back: "
QUIET = f"{HELD_BACK}{Reason.QUIET_HOURS}"


def behind() -> Select[tuple[int]]:
    """The unpublished events that wait for an earlier one about the same user and model, or else the same spell."""
    # All at once: asked event by event, Postgres may compare each that waits with each other, for 13 s at 10,000.
    waiting = outbox.alias("waiting")
    place = func.row_number().over(partition_by=_in_order(waiting), order_by=waiting.c.sequence).label("place")
    placed = select(waiting.c.sequence, place).where(waiting.c.published_at.is_(None)).subquery("placed")
    return select(placed.c.sequence).where(placed.c.place > 1)


def late(*, quiet: bool) -> Select[Any, Any]:
    """How many events are not confirmed, and the age of the oldest of them in seconds.

    In the `quiet` hours those do not count that they hold back, nor what waits behind one: they wake nobody. Once
    they are over each counts, though it still says what held it: while RabbitMQ is away, nobody looks at it again.
    """
    # Each attempt that fails moves next_attempt_at, so that alone would show no age at all.
    occurred_at = outbox.c.body["occurred_at"].astext.cast(DateTime(timezone=True))
    first = func.first_value(outbox.c.error).over(partition_by=_in_order(outbox), order_by=outbox.c.sequence)
    since = func.coalesce(occurred_at, outbox.c.next_attempt_at).label("since")
    waiting = select(since, first.label("first_error")).where(outbox.c.published_at.is_(None)).subquery("waiting")
    age = extract("epoch", func.now() - func.min(waiting.c.since))
    return select(func.count(), age).where(waiting.c.first_error.is_distinct_from(QUIET) if quiet else true())


def _in_order(events: FromClause) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """What events have in common of which each waits for the one before."""
    user = func.jsonb_extract_path_text(events.c.body, "user", "id")
    model = func.jsonb_extract_path_text(events.c.body, "reservation", "model_id")
    return user, func.coalesce(model, cast(events.c.spell_id, Text), cast(events.c.message_id, Text))
