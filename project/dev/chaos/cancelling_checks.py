"""Checks what was cancelled against what the warnings, the keeps and the pauses say."""

from collections.abc import Iterator

from dev.chaos.history import History


def only_what_was_named(history: History) -> Iterator[str]:
    """Only slots that a delivered warning of their user named are deleted.

    One that is booked between the GET of a reservation and its DELETE goes with it: BookingService cannot be asked to
    delete a reservation only if it is still as it was.
    """
    for gone in history.deletions:
        named = {
            named.slot
            for event in history.events
            if event.stage == "warning" and event.at <= gone.at and (event.user, event.model) == (gone.user, gone.model)
            for named in event.named
        }
        if gone.slot not in named and not history.came_between(gone):
            yield f"slot {gone.slot} of {gone.user} was deleted although no warning named it"


def not_before_promised(history: History) -> Iterator[str]:
    """No DELETE is sent before the moment that the user's last warning says."""
    for attempt in history.attempts:
        warning = history.last_warning(attempt.model, attempt.at, attempt.user)
        what = f"a DELETE of {attempt.user}'s {attempt.slot or attempt.reservation}"
        if warning is None:
            yield f"{what} was sent without a warning"
        elif attempt.at < (promised := warning.promised(attempt.at)):
            yield f"{what} was sent {promised - attempt.at:.2f} s before the warning said"


def told_what_went(history: History) -> Iterator[str]:
    """Users are told of every slot that they lost, and of no other; what was refused is not told as cancelled.

    A slot may go untold whose DELETE the database has forgotten: it finds it gone, as if its user had given it back.
    So may one that came between a GET and the DELETE.
    """
    cancelled = {(event.user, slot) for event in history.events for slot in event.cancelled}
    told_gone = {(event.user, slot) for event in history.events for slot in event.already_gone}
    deleted = {(deletion.user, deletion.slot) for deletion in history.deletions}
    known = {
        (deletion.user, deletion.slot)
        for deletion in history.deletions
        if history.known(deletion.at) and not history.came_between(deletion)
    }
    given_back = {record.slot for record in history.given_back}
    refused = {attempt.slot for attempt in history.attempts if attempt.refused}
    for user, slot in sorted(known - cancelled - told_gone):
        yield f"{user} was not told that slot {slot} was deleted"
    for user, slot in sorted(cancelled - deleted):
        why = "it was refused" if slot in refused else "it was not"
        yield f"{user} was told that slot {slot} was deleted, and {why}"
    for user, slot in sorted(told_gone - deleted):
        if slot not in given_back:
            yield f"{user} was told that slot {slot} was already gone, and it was not"


def uninstalled_for_good_reason(history: History) -> Iterator[str]:
    """No uninstall while a named slot is booked and not over, nor on the strength of a DELETE that was refused.

    Named by the last warning that the database knows of: one that it has forgotten is as if it had never been.
    """
    for command in history.commands:
        if command.replicas is not None:
            continue
        warning = history.last_known_warning(command.model, command.at)
        if warning is None:
            yield f"{command.model} was uninstalled without a warning"
            continue
        for named in warning.named:
            refused = any(
                attempt.refused and attempt.concerns(named) and warning.at <= attempt.at <= command.at
                for attempt in history.attempts
            )
            if history.gone_at(named.slot) <= command.at:
                continue
            if refused:
                yield f"{command.model} was uninstalled after the DELETE of slot {named.slot} was refused"
            elif named.end > command.at:
                yield f"{command.model} was uninstalled while slot {named.slot}, which the warning named, was booked"


def kept_is_kept(history: History) -> Iterator[str]:
    """After a keep is acknowledged, at most the DELETE or uninstall under way goes out for that user."""
    for keep in history.keeps:
        until = min(keep.until, history.known_until(keep.at))
        targets: set[object] = {
            attempt.target
            for attempt in history.attempts
            if (attempt.user, attempt.model) == (keep.user, keep.model) and keep.at < attempt.at < until
        }
        targets |= {
            command.at
            for command in history.commands
            if command.replicas is None and command.model == keep.model and keep.at < command.at < until
        }
        if len(targets) > 1:
            yield f"{len(targets)} steps were taken against {keep.user} while {keep.model} was kept"


def paused_is_paused(history: History) -> Iterator[str]:
    """While idle_enforce is paused, at most the DELETE under way goes out."""
    for pause in history.pauses:
        until = min(pause.until, history.known_until(pause.at))
        targets = {attempt.target for attempt in history.attempts if pause.at < attempt.at < until}
        if len(targets) > 1:
            yield f"{len(targets)} slots were to be deleted while idle_enforce was paused from {pause.at:.1f} on"
