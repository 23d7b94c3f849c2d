"""The demo's pure parts: its expectations can fail, and its view fits the terminal."""

import io

import pytest
from rich.console import Console

from dev.demo_story import ANN, BUSY, EXPECTATIONS, Facts, Script, begin
from dev.demo_view import Board, Line, render
from dev.platform import Platform


async def test_nothing_that_should_happen_counts_as_happened_at_the_beginning() -> None:
    async with Platform() as platform:
        facts = begin(platform)
        held = [wish.title for wish in EXPECTATIONS if wish.holds(facts)]
    # Only what must not happen holds before anything has happened.
    assert len(held) == 3, held
    assert all(word in " ".join(held) for word in ("left alone", "stay booked", "nobody else"))


async def test_a_slot_deleted_that_should_stay_breaks_the_expectation() -> None:
    async with Platform() as platform:
        facts = begin(platform)
        facts.expected_kept["a slot that was deleted"] = "no-such-slot"
        (kept,) = [wish for wish in EXPECTATIONS if "stay booked" in wish.title]
        assert not kept.holds(facts)


async def test_the_users_play_their_part_once() -> None:
    async with Platform() as platform:
        facts = begin(platform)
        script = Script(facts)
        assert script.play(1.0) == []
        assert [model for model, _ in script.play(30.0)] == [BUSY]
        facts.events.append({"user": {"id": str(ANN)}, "reservation": {"stage": "warning"}})
        assert script.play(31.0) == []
        assert len(script.play(40.0)) == 1
        assert script.play(50.0) == []


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_of_the_view_is_wider_than_the_terminal_and_none_wraps(columns: int) -> None:
    board = Board(elapsed=75, phase="two replicas", replicas={"replica-1": "ready", "replica-2": "not ready"})
    name = "Sber/GigaChat-Max-V2-with-a-very-long-name"
    board.lines = [
        Line(name, "ben, cleo", 36.4, 4, 8, 30, "warned", "scale_up to 8 overloaded"),
        Line(name, "", runs=False, state="enforced"),
    ]
    board.happenings.append((3.0, name, "mail to somebody@example.org: cancelled, 12 slots cancelled, uninstalled" * 2))
    screen = Console(width=columns, file=io.StringIO(), force_terminal=False)
    with screen.capture() as capture:
        screen.print(render(board))
    lines = capture.get().splitlines()
    assert max(len(line) for line in lines) <= columns
    assert len(lines) == 1 + 3 + 11


def test_facts_without_events_tell_nothing() -> None:
    assert Facts(Platform()).told(ANN, "warning") == {}
