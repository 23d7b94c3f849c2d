"""What `next_step` is to know of a spell, out of a fresh snapshot."""

from limiter.domain.command import CommandState
from limiter.domain.decision import Reason
from limiter.domain.enforcement import EnforcementFacts
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.snapshot import Snapshot


def step_facts(snapshot: Snapshot, spell: IdleSpell, reservation_id: str | None) -> EnforcementFacts:
    """The facts for the next step of a spell, for which this reservation was just read."""
    command, pacing = spell.uninstall, snapshot.policy.pacing_of(spell.model_name)
    failed = command is not None and command.state is CommandState.FAILED
    return EnforcementFacts(
        at=snapshot.at,
        ended=_ended(snapshot, spell),
        waits=_waits(snapshot, spell),
        booked={} if reservation_id is None else {reservation_id: snapshot.bookings.by_id.get(reservation_id)},
        model=snapshot.fleet.by_id.get(spell.model_id),
        blocker=snapshot.uninstall_blocker(spell),
        command_blocks=pacing.blocks(command, snapshot.at) if failed else None,
    )


def _ended(snapshot: Snapshot, spell: IdleSpell) -> Reason | None:
    """Why nothing more of this cancelling may be done."""
    if spell.dry_run and not snapshot.policy.dry_run:
        return Reason.MODE_CHANGED
    if snapshot.rule_of(spell).exempt:
        return Reason.EXEMPT
    if snapshot.is_kept(spell):
        return Reason.KEPT
    return Reason.USED_AGAIN if snapshot.used_since(spell) else None


def _waits(snapshot: Snapshot, spell: IdleSpell) -> Reason | None:
    """Why no step may be taken now."""
    if snapshot.policy.dry_run and not spell.dry_run:
        return Reason.MODE_CHANGED  # what was begun for real goes on when the dry run ends
    name, model = snapshot.name_of(spell), snapshot.fleet.by_id.get(spell.model_id)
    if not snapshot.observation.known(name) or (model is None and not snapshot.fleet.is_gone(spell.model_id)):
        return Reason.READING_UNKNOWN
    if not snapshot.bookings.readable(spell.model_id, name):
        return Reason.BOOKINGS_UNREADABLE
    quiet = snapshot.policy.idle(spell.model_name).quiet
    return Reason.QUIET_HOURS if quiet.open_from(snapshot.at) != snapshot.at else None
