"""The demo's pure parts: its expectations can fail, and its view fits the terminal."""

import io
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from dev.demo.board import LAST, Board, Line, state_of
from dev.demo.expectations import CLEAN_STOP, EXPECTATIONS
from dev.demo.story import (
    ANN,
    BEN,
    BUSY,
    DAN,
    EVE,
    FORGOTTEN,
    RETURNED,
    SHARED,
    Facts,
    Happening,
    N,
    Script,
    Y,
    begin,
    logged,
    mail,
)
from dev.demo.view import View, idle_bar, plain, render
from dev.fake_platform.platform import Command, Deletion, Platform

LONG = "Sber/GigaChat-Max-V2-with-a-very-long-name"


def event(user: UUID, stage: str, *slots: str, uninstalled: bool = False) -> dict[str, Any]:
    """A ReservationNoUse event, as much of it as the demo reads."""
    cancelled = [{"slot_id": slot} for slot in slots]
    reservation = {"stage": stage, "cancelled_slots": cancelled, "uninstalled": uninstalled, "model_name": "m"}
    return {"user": {"id": str(user), "email": "u@example.org"}, "reservation": reservation}


def command(facts: Facts, model: str, replicas: int | None) -> None:
    kind: Any = "scale" if replicas else "uninstall"
    facts.platform.commands.append(Command(0.0, kind, uuid4(), model, replicas, uuid4()))


def delete(facts: Facts, *slot_ids: str) -> None:
    """Take slots away as the booking service does."""
    for booked in facts.platform.reservations:
        gone = tuple(slot for slot in booked.slots if slot.id in slot_ids)
        booked.slots = [slot for slot in booked.slots if slot not in gone]
        for slot in gone:
            deletion = Deletion(0.0, booked.id, slot.id, booked.user, booked.model_name, (slot,))
            facts.platform.deletions.append(deletion)


def remove(facts: Facts, name: str) -> None:
    facts.platform.remove_model(next(model for model in facts.platform.models if model.name == name))


@pytest.fixture
def story() -> Facts:
    """Everything that a good run leaves behind."""
    facts = begin(Platform())
    for replicas in (3, 4, 3, 2, 1):
        command(facts, BUSY, replicas)
    command(facts, FORGOTTEN, None)
    bens, dans = facts.expected_gone[BEN], facts.expected_gone[DAN]
    delete(facts, *bens, *dans)
    remove(facts, FORGOTTEN)
    facts.events += [event(user, "warning") for user in (ANN, BEN, DAN)] + [event(ANN, "withdrawn")]
    facts.events += [event(BEN, "cancelled", *bens), event(DAN, "cancelled", *dans, uninstalled=True)]
    facts.held_back = {"booked_soon"}
    return facts


def broken(facts: Facts) -> list[str]:
    return [expected.title for expected in EXPECTATIONS if not expected.is_met(facts)]


def forget_events(facts: Facts, user: UUID, stage: str) -> None:
    facts.events = [
        event for event in facts.events if (event["user"]["id"], event["reservation"]["stage"]) != (str(user), stage)
    ]


def test_a_good_run_meets_every_expectation(story: Facts) -> None:
    assert broken(story) == []


BREACHES: list[tuple[str, Callable[[Facts], object]]] = [
    ("36 RPS", lambda facts: command(facts, BUSY, 1)),
    ("36 RPS", lambda facts: facts.platform.commands.pop(0)),
    ("steady use", lambda facts: facts.events.append(event(EVE, "warning"))),
    ("ann is warned", lambda facts: forget_events(facts, ANN, "withdrawn")),
    ("ann is warned", lambda facts: facts.events.append(event(ANN, "cancelled"))),
    ("ben is warned", lambda facts: forget_events(facts, BEN, "warning")),
    ("ben is warned", lambda facts: facts.platform.deletions.pop(0)),
    ("stay booked", lambda facts: facts.expected_kept.update(another="no-such-slot")),
    ("nobody else", lambda facts: delete(facts, *facts.expected_kept.values())),
    ("stays installed", lambda facts: remove(facts, SHARED)),
    ("stays installed", lambda facts: facts.held_back.clear()),
    ("dan's following", lambda facts: facts.platform.add_model(FORGOTTEN)),
    ("dan's following", lambda facts: forget_events(facts, DAN, "cancelled")),
    ("nobody else", lambda facts: facts.platform.violations.append("two unfinished commands")),
]


@pytest.mark.parametrize(("title", "breach"), BREACHES)
def test_what_is_missing_or_too_much_breaks_its_expectation(
    story: Facts, title: str, breach: Callable[[Facts], object]
) -> None:
    breach(story)
    assert any(title in missing for missing in broken(story)), broken(story)


def test_nothing_that_should_happen_counts_as_happened_at_the_beginning() -> None:
    missing = broken(begin(Platform()))
    # Before anything has happened, only what must not happen is as expected.
    assert len(EXPECTATIONS) - len(missing) == 3, missing


def test_the_summary_names_what_is_missing(story: Facts, capsys: pytest.CaptureFixture[str]) -> None:
    assert View().summary(story, EXPECTATIONS)
    assert "missing" not in capsys.readouterr().out
    story.platform.commands.clear()
    assert not View().summary(story, EXPECTATIONS)
    assert "missing: 36 RPS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("exits", "clean"),
    [({"replica-1": 0, "replica-2": 0}, True), ({"replica-1": 0, "replica-2": -9}, False), ({}, False)],
)
def test_a_replica_that_does_not_stop_cleanly_breaks_the_demo(exits: dict[str, int], *, clean: bool) -> None:
    assert CLEAN_STOP.is_met(Facts(Platform(), exits=exits)) is clean


def test_the_users_play_their_part_once() -> None:
    script = Script(begin(Platform()))
    assert script.play(1.0) == []
    assert [happening.model for happening in script.play(30.0)] == [BUSY]
    script.facts.events.append(event(ANN, "warning"))
    assert script.play(31.0) == []
    assert [happening.model for happening in script.play(40.0)] == [RETURNED]
    assert script.play(50.0) == []


def test_log_lines_become_happenings_with_their_reason() -> None:
    scaled = {"event": "decided", "decision": "scale_up", "model": BUSY, "reason": "overloaded"}
    said = {"message": f"scale_up {BUSY}: 12.0 RPS per replica: 1 → 3"}
    assert logged(scaled | said) == Happening("scale_up", BUSY, "12.0 RPS per replica: 1 → 3", "overloaded")
    assert logged({"event": "decided", "decision": "hold", "model": BUSY, "message": "hold"}) is None
    assert logged({"event": "run_ended", "message": "rps_check completed"}) is None


def test_a_mail_and_its_plain_line_fit_the_columns() -> None:
    happening = mail(event(BEN, "cancelled", "a", "b"))
    assert plain(65, happening) == f"01:05  mail        {'m':<22}  to u@example.org: cancelled, 2 slots cancelled"


@pytest.mark.parametrize(
    ("spell", "booked", "runs", "state"),
    [
        (None, True, True, "in use"),
        (None, False, True, "not booked"),
        ("warned", True, True, "warned"),
        ("withdrawn", True, True, "in use"),
        ("enforcing", True, True, "cancelling"),
        ("enforced", True, True, "cancelled"),
        ("enforced", True, False, "uninstalled"),
    ],
)
def test_the_state_is_named_as_people_name_it(spell: str | None, state: str, *, booked: bool, runs: bool) -> None:
    assert state_of(spell, 0.0, booked=booked, runs=runs) == state


@pytest.mark.parametrize("cells", [8, 16])
def test_the_idle_bar_reaches_its_mark_with_the_warning_and_its_end_with_the_cancelling(cells: int) -> None:
    def bar(idle: float) -> str:
        return idle_bar(Line("m", "ann", replicas=1, idle=idle), cells).plain[:cells]

    assert bar(0).count("█") == 0
    assert bar(0).index("┊") == bar(N - Y).count("█")
    assert bar(N) == bar(10 * N) == "█" * cells


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_of_the_view_is_wider_than_the_terminal_and_none_wraps(columns: int) -> None:
    board = Board(elapsed=75, phase="two replicas " * 9, last_job="event_dispatch ran on replica-1")
    board.replicas = {"replica-1": "ready", "replica-2": "not ready"}
    board.lines = [
        Line(LONG, "ben, cleo, dan", 36.4, 4, 8, 30, "uninstalled", "scale_up to 8 " * 3, "overloaded " * 9),
        Line(LONG, state="uninstalled"),
    ]
    board.happenings += [(3.0, Happening("scale_down", LONG, "mail to somebody@example.org " * 5, "overloaded"))] * 20
    screen = Console(width=columns, file=io.StringIO(), force_terminal=False)
    with screen.capture() as capture:
        screen.print(render(board, columns))
    lines = capture.get().splitlines()
    assert max(len(line) for line in lines) <= columns
    assert len(lines) == 1 + 3 + LAST + 2
