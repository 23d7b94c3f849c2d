"""The demo's view: it fits the terminal, and names things as people do."""

import io

import pytest
from rich.console import Console

from dev.demo.board import LAST, Board, Line, state_of
from dev.demo.happenings import Happening
from dev.demo.story import N, Y
from dev.demo.view import idle_bar, render

LONG = "Sber/GigaChat-Max-V2-with-a-very-long-name"


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


def test_a_kept_booking_is_shown_as_kept() -> None:
    assert state_of("withdrawn", 2 * N, booked=True, runs=True, kept=True) == "kept"


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
