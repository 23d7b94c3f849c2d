"""When the cancelling of an open spell can begin at the earliest, as things stand now."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Interval, case, func, literal, select

from limiter.db.tables import idle_spell
from limiter.db.tables import job as jobs
from limiter.domain.idle_spell import SpellState
from limiter.domain.job import Job
from limiter.domain.policy import Policy


def due_at(policy: Policy) -> ColumnElement[datetime]:
    """What the warning said, or later: from a resume of the idle jobs on, idle time must reach the limit anew.

    So it must if the limit is another since the warning. What is begun is not put off.
    """
    resumed = select(func.max(jobs.c.resumed_at)).where(jobs.c.name.in_((Job.IDLE_WARNING, Job.IDLE_ENFORCE)))
    counts_from = func.greatest(idle_spell.c.idle_since, resumed.scalar_subquery())
    later = func.greatest(idle_spell.c.not_before, counts_from + _limit(policy))
    begun = idle_spell.c.state == SpellState.ENFORCING
    due: ColumnElement[datetime] = case((begun, idle_spell.c.not_before), else_=later)
    return due


def _limit(policy: Policy) -> ColumnElement[timedelta]:
    """The limit of the spell's model, by the name with which it began."""
    usual = policy.idle_rule.limit
    own = {name: idle.limit for name, (_, idle) in policy.own_rules.items() if idle.limit != usual}
    if not own:
        return literal(usual, Interval)
    limits = {name: literal(limit, Interval) for name, limit in own.items()}
    return case(limits, value=idle_spell.c.model_name, else_=literal(usual, Interval))
