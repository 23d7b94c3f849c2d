"""Whether a warning that had to wait may still be sent, by what is remembered alone."""

from collections.abc import Iterable
from datetime import datetime

from limiter.domain.decision import Reason
from limiter.domain.idle_spell import IdleSpell, SpellState
from limiter.domain.keep import Keep, kept
from limiter.domain.policy import Policy


def held_back(
    policy: Policy, spell: IdleSpell, used_at: datetime | None, keeps: Iterable[Keep], now: datetime
) -> Reason | None:
    """Why the warning of a spell must not be sent now; None: it may.

    One that was tried, and whose spell was closed since, may have reached its user: it goes before what closes it.
    """
    overtaken = _overtaken(policy, spell, used_at, keeps, now)
    if spell.state is SpellState.WARNING_PENDING and overtaken is not None:
        return overtaken
    quiet = policy.idle(spell.model_name).quiet
    return Reason.QUIET_HOURS if quiet.open_from(now) != now else None


def _overtaken(
    policy: Policy, spell: IdleSpell, used_at: datetime | None, keeps: Iterable[Keep], now: datetime
) -> Reason | None:
    """Why a warning that is sent now would be withdrawn, or could not come true."""
    rule = policy.idle(spell.model_name)
    if spell.dry_run != policy.dry_run:
        return Reason.MODE_CHANGED
    if rule.exempt or kept(keeps, spell.model_name, spell.user.id, spell.idle_since):
        return Reason.EXEMPT if rule.exempt else Reason.KEPT
    if used_at is not None and used_at > spell.idle_since:
        return Reason.USED_AGAIN
    if rule.uninstall or not spell.named:
        return None  # the model may be freed after the last of them
    deadline = rule.earliest(spell.not_before, now)
    return Reason.NOTHING_TO_CANCEL if all(slot.end <= deadline for slot in spell.named) else None
