"""The history checker itself: it passes a good history, and catches a broken one of each kind."""

from dataclasses import replace

import pytest

from dev.chaos.checker import Asked, Deleted, History, Published, Ran, Received, check

SPELL = ("r1", "10:00")
WARNING = Received(100.0, "m1", "ann", "idle", "warning", SPELL)
FINAL = Received(116.0, "m2", "ann", "idle", "cancelled", SPELL, ("s2",))
GONE = Deleted(115.0, "ann", "idle", "s2")
UP, DOWN = Asked(10.0, "busy", 3, 12.0), Asked(12.0, "busy", 4, 14.0)
FIRST = Ran("rps_check", 1, 0.0, "schedule", "completed", 0.1, 0.4)
SECOND = Ran("rps_check", 2, 1.0, "schedule", "completed", 1.1, 1.4)
GOOD = History(
    lead=15.0,
    min_replicas=1,
    max_replicas=8,
    events=(WARNING, FINAL),
    deletions=(GONE,),
    commands=(UP, DOWN),
    runs=(FIRST, SECOND),
    published=(Published("m1"), Published("m2")),
    always_used=frozenset({"busy"}),
)

BROKEN = {
    "no warning": (replace(GOOD, events=(FINAL,), published=()), "without a warning"),
    "warned too late": (replace(GOOD, events=(replace(WARNING, at=100.1), FINAL)), "without a warning"),
    "warned about another model": (replace(GOOD, events=(replace(WARNING, model="x"), FINAL)), "without a warning"),
    "another user's slot": (
        replace(GOOD, deletions=(GONE, replace(GONE, user="ben", slot="s9"))),
        "of ben was deleted",
    ),
    "not told": (replace(GOOD, events=(WARNING, replace(FINAL, cancelled=()))), "was not told"),
    "told too much": (replace(GOOD, events=(WARNING, replace(FINAL, cancelled=("s2", "s3")))), "and it was not"),
    "two warnings": (replace(GOOD, events=(WARNING, replace(WARNING, message_id="m3"), FINAL)), "of one spell"),
    "end before warning": (replace(GOOD, events=(FINAL, WARNING)), "of one spell"),
    "id twice": (replace(GOOD, events=(WARNING, WARNING, FINAL)), "twice in a deduplicated"),
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


def test_a_good_history_breaks_nothing() -> None:
    assert check(GOOD) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_history_is_caught(case: str) -> None:
    history, words = BROKEN[case]
    problems = check(history)
    assert any(words in problem for problem in problems), problems
