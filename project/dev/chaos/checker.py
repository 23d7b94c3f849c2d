"""Checks a history against the invariants: what the external services, the notificator and Postgres recorded.

The checker knows nothing of how the limiter works; it uses only what is visible from outside, and the tables.
"""

from collections.abc import Iterator
from itertools import pairwise

from dev.chaos.cancelling_checks import (
    kept_is_kept,
    not_before_promised,
    only_what_was_named,
    paused_is_paused,
    told_what_went,
    uninstalled_for_good_reason,
)
from dev.chaos.history import Asked, History, Ran, SpellIdentity
from dev.wording import counted


def check(history: History) -> list[str]:
    """Every breach of an invariant, in words; empty if there is none."""
    return [problem for invariant in INVARIANTS for problem in invariant(history)]


def _warned_first(history: History) -> Iterator[str]:
    """Nobody loses a slot without a delivered warning at least the lead earlier, which the database still knows of."""
    for gone in history.deletions:
        warned = [
            at
            for event in history.events
            if event.stage == "warning" and (event.user, event.model) == (gone.user, gone.model)
            for at in event.deliveries
            if history.known(at, gone.at)
        ]
        if not any(at + history.lead <= gone.at for at in warned):
            yield f"slot {gone.slot} of {gone.user} was deleted without a warning {history.lead:g} s before"


def _told_in_order(history: History) -> Iterator[str]:
    """Each spell has one warning, then exactly one closing event; message ids do not repeat.

    Of a spell of which the database has forgotten an event, that is so of the events that it knows.
    """
    ids: set[str] = set()
    spells: dict[tuple[str, SpellIdentity], list[str]] = {}
    forgotten: set[tuple[str, SpellIdentity]] = set()
    for event in history.events:
        if event.message_id in ids:
            yield f"message {event.message_id} is twice in a deduplicated history"
        ids.add(event.message_id)
        of_this = spells.setdefault((event.user, event.spell), [])
        if any(history.known(at) for at in event.deliveries):
            of_this.append(event.stage)
        else:
            forgotten.add((event.user, event.spell))
    allowed = (["warning", "withdrawn"], ["warning", "cancelled"])
    for (user, spell), stages in spells.items():
        if stages not in allowed and not ((user, spell) in forgotten and not stages):
            yield f"{user} was told {stages} of one spell"


def _in_use_left_alone(history: History) -> Iterator[str]:
    """No warning, cancellation or uninstall concerns a model that is called all the time."""
    for name in sorted({event.model for event in history.events} & history.always_used):
        yield f"the user of {name} was warned although it was in use all the time"
    for name in sorted({gone.model for gone in history.deletions} & history.always_used):
        yield f"slots of {name} were deleted although it was in use all the time"
    for command in history.commands:
        if command.replicas is None and command.model in history.always_used:
            yield f"{command.model} was uninstalled although it was in use all the time"


def _commands(history: History) -> Iterator[str]:
    """Replicas are within the limits; no command is sent while another for the model is unfinished.

    Only one that the database has forgotten, put back while it was under way, may be followed by another then.
    """
    by_model: dict[str, list[Asked]] = {}
    for command in sorted(history.commands, key=lambda command: command.at):
        by_model.setdefault(command.model, []).append(command)
        wanted = command.replicas
        if wanted is not None and not history.min_replicas <= wanted <= history.max_replicas:
            yield f"{command.model} was to have {counted(wanted, 'replica')}"
    for model, commands in by_model.items():
        for before, after in pairwise(commands):
            if history.known(before.at, after.at) and (before.until is None or after.at < before.until):
                yield f"{model} got a command at {after.at:.1f} while that of {before.at:.1f} was unfinished"


def _runs(history: History) -> Iterator[str]:
    """A job never runs twice at once, nor twice by schedule for one interval."""
    by_job: dict[str, list[Ran]] = {}
    for run in sorted(history.runs, key=lambda run: run.epoch):
        by_job.setdefault(run.job, []).append(run)
    for job, runs in by_job.items():
        for before, after in pairwise(runs):
            if before.until is not None and after.at < before.until:
                yield f"runs {before.epoch} and {after.epoch} of {job} overlap"
        scheduled = [run.due_slot for run in runs if run.cause == "schedule"]
        twice = {due for due in scheduled if scheduled.count(due) > 1}
        yield from (f"{job} ran twice for the interval of {due:.1f}" for due in sorted(twice))


def _nothing_lost(history: History) -> Iterator[str]:
    """Every event marked as published has arrived in the notificator's queue."""
    received = {event.message_id for event in history.events}
    lost = [event.message_id for event in history.published if event.message_id not in received]
    yield from (f"event {message_id} never arrived" for message_id in lost)


INVARIANTS = (
    _warned_first,
    only_what_was_named,
    not_before_promised,
    told_what_went,
    _told_in_order,
    uninstalled_for_good_reason,
    kept_is_kept,
    paused_is_paused,
    _in_use_left_alone,
    _commands,
    _runs,
    _nothing_lost,
)
