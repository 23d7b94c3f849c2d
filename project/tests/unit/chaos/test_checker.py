"""The history checker itself: it passes a good history, and catches a broken one of each kind."""

from dataclasses import replace

import pytest

from dev.chaos.checker import check
from dev.chaos.history import (
    Asked,
    Attempt,
    BookedOn,
    Deleted,
    GivenBack,
    History,
    Kept,
    Lost,
    Named,
    Paused,
    Published,
    Ran,
    Read,
    Received,
)

SPELL = ("r1", "10:00")
S2, S3 = Named("s2", "r1", 900.0), Named("s3", "r1", 1800.0)
WARNING = Received(100.0, "m1", "ann", "idle", "warning", SPELL, (S2, S3), not_before=114.0)
FINAL = Received(120.0, "m2", "ann", "idle", "cancelled", SPELL, cancelled=("s2",), already_gone=("s3",))
GONE = Deleted(115.0, "ann", "idle", "s2")
REFUSED = Attempt(114.1, "ann", "idle", "r1", "s2", refused=True)
DELETE_2, DELETE_3 = Attempt(115.0, "ann", "idle", "r1", "s2"), Attempt(116.0, "ann", "idle", "r1", "s3")
BACK = GivenBack(115.5, "s3")
UP, DOWN = Asked(10.0, "busy", 3, 12.0), Asked(12.0, "busy", 4, 14.0)
UNINSTALL = Asked(118.0, "idle", None, 119.0)
FIRST = Ran("rps_check", 1, 0.0, "schedule", "completed", 0.1, 0.4)
SECOND = Ran("rps_check", 2, 1.0, "schedule", "completed", 1.1, 1.4)
GOOD = History(
    lead=15.0,
    min_replicas=1,
    max_replicas=8,
    events=(WARNING, FINAL),
    deletions=(GONE,),
    attempts=(REFUSED, DELETE_2, DELETE_3),
    given_back=(BACK,),
    keeps=(Kept(115.6, 117.0, "ann", "idle"),),
    pauses=(Paused(115.7, 117.0),),
    commands=(UP, DOWN, UNINSTALL),
    runs=(FIRST, SECOND),
    published=(Published("m1"), Published("m2")),
    always_used=frozenset({"busy"}),
)
WITH_IT = replace(GOOD, deletions=(GONE, replace(GONE, slot="s9", reservation="r1")), reads=(Read(114.5, "r1"),))
# Withdrawn in place of cancelled: nothing was deleted, so nothing may be uninstalled.
WITHDRAWN = Received(117.5, "m3", "ann", "idle", "withdrawn", SPELL)
LEFT_ALONE = replace(
    GOOD, events=(WARNING, WITHDRAWN), deletions=(), attempts=(REFUSED,), given_back=(), commands=(), published=()
)
BOTH_TOLD = replace(FINAL, cancelled=("s2", "s3"), already_gone=())

BROKEN = {
    "no warning": (replace(GOOD, events=(FINAL,), published=()), "without a warning"),
    "warned too late": (replace(GOOD, events=(replace(WARNING, at=100.1), FINAL)), "without a warning"),
    "warned about another model": (replace(GOOD, events=(replace(WARNING, model="x"), FINAL)), "without a warning"),
    "another user's slot": (
        replace(GOOD, deletions=(GONE, replace(GONE, user="ben", slot="s9"))),
        "of ben was deleted",
    ),
    "a slot that was not named": (
        replace(GOOD, events=(replace(WARNING, named=(S3,)), FINAL)),
        "s2 of ann was deleted although no warning named it",
    ),
    "a slot that another user's warning named": (
        replace(GOOD, events=(replace(WARNING, user="ben"), FINAL)),
        "s2 of ann was deleted although no warning named it",
    ),
    "named only afterwards": (
        replace(GOOD, events=(replace(WARNING, named=()), FINAL, replace(WARNING, at=116.0, message_id="m4"))),
        "s2 of ann was deleted although no warning named it",
    ),
    "booked before the last look": (
        replace(WITH_IT, booked_on=(BookedOn(114.4, "s9"),)),
        "s9 of ann was deleted although no warning named it",
    ),
    "booked after a look at another reservation": (
        replace(WITH_IT, booked_on=(BookedOn(114.6, "s9"),), reads=(Read(114.5, "r2"),)),
        "was not told that slot s9 was deleted",
    ),
    "before the promised moment": (
        replace(GOOD, events=(replace(WARNING, not_before=115.5), FINAL)),
        "a DELETE of ann's s2 was sent 0.50 s before the warning said",
    ),
    "a refused DELETE before the promised moment": (
        replace(GOOD, attempts=(replace(REFUSED, at=113.0), DELETE_2, DELETE_3)),
        "a DELETE of ann's s2 was sent 1.00 s before the warning said",
    ),
    "a DELETE without a warning": (
        replace(GOOD, attempts=(*GOOD.attempts, Attempt(50.0, "ann", "idle", "r1", None))),
        "a DELETE of ann's r1 was sent without a warning",
    ),
    "not told": (replace(GOOD, events=(WARNING, replace(FINAL, cancelled=()))), "was not told that slot s2"),
    "told too much": (replace(GOOD, events=(WARNING, BOTH_TOLD)), "told that slot s3 was deleted, and it was not"),
    "told what was refused": (
        replace(GOOD, events=(WARNING, BOTH_TOLD), attempts=(*GOOD.attempts, replace(DELETE_3, refused=True))),
        "told that slot s3 was deleted, and it was refused",
    ),
    "told as gone and still booked": (replace(GOOD, given_back=()), "s3 was already gone, and it was not"),
    "two warnings": (replace(GOOD, events=(WARNING, replace(WARNING, message_id="m3"), FINAL)), "of one spell"),
    "end before warning": (replace(GOOD, events=(FINAL, WARNING)), "of one spell"),
    "never closed": (replace(LEFT_ALONE, events=(WARNING,)), "told ['warning'] of one spell"),
    "closed twice": (replace(GOOD, events=(WARNING, FINAL, WITHDRAWN)), "'cancelled', 'withdrawn'] of one spell"),
    "id twice": (replace(GOOD, events=(WARNING, WARNING, FINAL)), "twice in a deduplicated"),
    "uninstalled while a named slot is booked": (
        replace(GOOD, commands=(replace(UNINSTALL, at=115.2),)),
        "while slot s3, which the warning named, was booked",
    ),
    "uninstalled on a warning that the database has forgotten": (
        replace(GOOD, lost=(Lost(99.0, 101.0),)),
        "idle was uninstalled without a warning",
    ),
    "uninstalled after a refusal": (
        replace(GOOD, attempts=(*GOOD.attempts, replace(DELETE_3, refused=True)), given_back=()),
        "uninstalled after the DELETE of slot s3 was refused",
    ),
    "uninstalled after the refusal of a whole reservation": (
        replace(LEFT_ALONE, attempts=(replace(REFUSED, slot=None),), commands=(UNINSTALL,)),
        "uninstalled after the DELETE of slot s2 was refused",
    ),
    "uninstalled after a refusal, when the slot is over": (
        replace(LEFT_ALONE, events=(replace(WARNING, named=(replace(S2, end=117.0),)),), commands=(UNINSTALL,)),
        "uninstalled after the DELETE of slot s2 was refused",
    ),
    "uninstalled without a warning": (
        replace(GOOD, events=(replace(WARNING, at=118.5), FINAL)),
        "idle was uninstalled without a warning",
    ),
    "cancelled while kept": (
        replace(GOOD, keeps=(Kept(114.5, 117.0, "ann", "idle"),)),
        "2 steps were taken against ann while idle was kept",
    ),
    "cancelled, then uninstalled while kept": (
        replace(GOOD, keeps=(Kept(115.6, 119.0, "ann", "idle"),)),
        "2 steps were taken against ann while idle was kept",
    ),
    "cancelled while paused": (replace(GOOD, pauses=(Paused(114.5, 117.0),)), "2 slots were to be deleted while"),
    "used and warned": (replace(GOOD, always_used=frozenset({"idle"})), "although it was in use"),
    "used and uninstalled": (replace(GOOD, commands=(Asked(1.0, "busy", None),)), "was uninstalled although"),
    "no replica": (replace(GOOD, commands=(replace(UP, replicas=0),)), "to have 0 replicas"),
    "too many": (replace(GOOD, commands=(replace(UP, replicas=9),)), "to have 9 replicas"),
    "command in command": (replace(GOOD, commands=(UP, replace(DOWN, at=11.9))), "while that of"),
    "command after a stuck one": (replace(GOOD, commands=(replace(UP, until=None), DOWN)), "while that of"),
    "overlapping runs": (replace(GOOD, runs=(replace(FIRST, until=1.2), SECOND)), "overlap"),
    "interval twice": (replace(GOOD, runs=(FIRST, replace(SECOND, due_slot=0.0))), "ran twice"),
    "event lost": (replace(GOOD, published=(*GOOD.published, Published("m7"))), "never arrived"),
}

# The database was put back at 117, to how it was at 90 or at 113: it knows neither the warning, nor only the end.
ALL_LOST, END_LOST = (Lost(90.0, 117.0),), (Lost(113.0, 117.0),)
AGAIN = replace(WARNING, message_id="m5", at=117.2, not_before=123.5)
AFTER = Deleted(133.0, "ann", "idle", "s3")
CANCELLED_AGAIN = replace(FINAL, message_id="m6", at=134.0, cancelled=("s3",), already_gone=("s2",))
PUT_BACK = replace(
    GOOD,
    lost=ALL_LOST,
    events=(WARNING, AGAIN, CANCELLED_AGAIN),
    deletions=(GONE, AFTER),
    attempts=(DELETE_2, replace(DELETE_3, at=133.0)),
    given_back=(),
    keeps=(Kept(112.0, 140.0, "ann", "idle"),),
    pauses=(Paused(112.0, 140.0),),
    commands=(replace(UP, at=116.5, until=119.0), replace(DOWN, at=118.0)),
    published=(),
)
SENT_AGAIN = replace(WARNING, again=((117.2, 123.5),))
BROKEN |= {
    "cancelled by a warning that is forgotten": (
        replace(PUT_BACK, deletions=(replace(AFTER, at=131.0),)),
        "without a warning 15 s before",
    ),
    "cancelled by a warning that is known again too late": (
        replace(PUT_BACK, events=(SENT_AGAIN, CANCELLED_AGAIN), deletions=(replace(AFTER, at=131.0),)),
        "without a warning 15 s before",
    ),
    "cancelled before the moment said last": (
        replace(PUT_BACK, attempts=(replace(DELETE_3, at=123.0),)),
        "0.50 s before the warning said",
    ),
    "warned again although the first was not forgotten": (replace(PUT_BACK, lost=END_LOST), "of one spell"),
    "closed twice, of which one is forgotten, and again": (
        replace(PUT_BACK, events=(*PUT_BACK.events, replace(WITHDRAWN, at=140.0))),
        "of one spell",
    ),
    "not told of what was cancelled after": (
        replace(PUT_BACK, events=(WARNING, AGAIN, replace(CANCELLED_AGAIN, cancelled=()))),
        "was not told that slot s3",
    ),
    "a second command to one that is known": (replace(PUT_BACK, lost=(Lost(90.0, 116.0),)), "while that of"),
    "cancelled while kept, before it was forgotten": (
        replace(PUT_BACK, attempts=(DELETE_2, DELETE_3)),
        "2 steps were taken against ann",
    ),
}


@pytest.mark.parametrize("history", [GOOD, LEFT_ALONE, PUT_BACK, replace(GOOD, lost=END_LOST, keeps=(), pauses=())])
def test_a_good_history_breaks_nothing(history: History) -> None:
    assert check(history) == []


def test_a_named_slot_that_is_over_does_not_keep_its_model() -> None:
    over = replace(WARNING, named=(replace(S2, end=117.0),))
    assert check(replace(LEFT_ALONE, events=(over, WITHDRAWN), attempts=(), commands=(UNINSTALL,))) == []


def test_a_delete_that_is_repeated_is_one_step() -> None:
    again = replace(DELETE_3, at=116.5)
    assert check(replace(GOOD, attempts=(*GOOD.attempts, again))) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_history_is_caught(case: str) -> None:
    history, words = BROKEN[case]
    problems = check(history)
    assert any(words in problem for problem in problems), problems


def test_a_slot_booked_between_the_look_and_the_delete_is_the_api_s_limit_and_no_error_of_ours() -> None:
    assert check(replace(WITH_IT, booked_on=(BookedOn(114.6, "s9"),))) == []


def test_a_warning_that_the_database_has_forgotten_names_nothing() -> None:
    forgotten = replace(WARNING, at=110.0, message_id="m4", named=(Named("s9", "r1", 2700.0),), not_before=112.0)
    history = replace(GOOD, events=(WARNING, forgotten, FINAL), lost=(Lost(109.0, 111.0),))
    assert check(history) == []
    assert any("slot s9" in problem for problem in check(replace(history, lost=())))
