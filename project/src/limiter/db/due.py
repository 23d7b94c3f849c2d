"""When the cancelling of an open spell can begin at the earliest, as things stand now."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, DateTime, Interval, case, func, literal, select

from limiter.db.tables import idle_spell
from limiter.db.tables import job as jobs
from limiter.domain.idle_rule import IdleRule
from limiter.domain.idle_spell import SpellState
from limiter.domain.job import Job
from limiter.domain.policy import Policy


def due_at(policy: Policy) -> ColumnElement[datetime]:
    """What the warning said, or later: from a resume of the idle jobs on, idle time must reach the limit anew.

    So it must if the limit is another since the warning, and the lead of now must have passed since its delivery. What
    is begun is not put off.
    """
    resumed = select(func.max(jobs.c.resumed_at)).where(jobs.c.name.in_((Job.IDLE_WARNING, Job.IDLE_ENFORCE)))
    counts_from = func.greatest(idle_spell.c.idle_since, resumed.scalar_subquery())
    warned_until = idle_spell.c.delivered_at + _of_rule(policy, lambda rule: rule.lead)  # left out while it is NULL
    full = counts_from + _of_rule(policy, lambda rule: rule.limit)
    later = func.greatest(idle_spell.c.not_before, full, warned_until)
    begun = idle_spell.c.state == SpellState.ENFORCING
    due: ColumnElement[datetime] = case((begun, idle_spell.c.not_before), else_=later)
    return due


def due_if_delivered(policy: Policy, now: datetime) -> ColumnElement[datetime]:
    """The same; of a warning that is not delivered yet, as if it were delivered now and there were no quiet hours."""
    due = due_at(policy)
    later = func.greatest(due, literal(now, DateTime(timezone=True)) + _of_rule(policy, lambda rule: rule.lead))
    moment: ColumnElement[datetime] = case((idle_spell.c.delivered_at.is_(None), later), else_=due)
    return moment


def _of_rule(policy: Policy, part: Callable[[IdleRule], timedelta]) -> ColumnElement[timedelta]:
    """A part of the rule of the spell's model, by the name with which it began."""
    usual = part(policy.idle_rule)
    own = {name: part(idle) for name, (_, idle) in policy.own_rules.items() if part(idle) != usual}
    if not own:
        return literal(usual, Interval)
    parts = {name: literal(one, Interval) for name, one in own.items()}
    return case(parts, value=idle_spell.c.model_name, else_=literal(usual, Interval))
