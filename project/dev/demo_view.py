"""What a person sees of the demo: a live table in a terminal, plain lines elsewhere."""

from collections import deque
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dev.demo_story import EXPECTATIONS, Facts, N, Y

LAST = 9  # happenings shown
BAR = 16  # cells of the idle bar
COLOURS = {"warned": "yellow", "warning_pending": "yellow", "enforcing": "red", "enforced": "red", "withdrawn": "cyan"}


@dataclass
class Line:
    """One model as the view shows it."""

    name: str
    holders: str = ""
    rps: float = 0.0
    replicas: int = 0
    wanted: int | None = None
    idle: float = 0.0
    state: str = "in use"
    last: str = ""
    runs: bool = True


@dataclass
class Board:
    """Everything on show."""

    elapsed: float = 0.0
    phase: str = ""
    replicas: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    happenings: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=LAST))


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def render(board: Board) -> Group:
    """The whole screen."""
    header = Text.assemble((" rps-limiter ", "bold white on blue"), f"  {clock(board.elapsed)}  ", (board.phase, "dim"))
    for name, health in board.replicas.items():
        header.append(f"  {name} ")
        header.append("●" if health == "ready" else f"● {health}", "green" if health == "ready" else "red")
    return Group(header, _table(board), _happenings(board))


def _table(board: Board) -> Table:
    table = Table(expand=True, box=None, padding=(0, 1), header_style="dim")
    table.add_column("model", ratio=5, no_wrap=True)
    table.add_column("RPS", width=3, justify="right", no_wrap=True)
    table.add_column("replicas", width=8, no_wrap=True)
    table.add_column(f"warn {N - Y}s, cancel {N}s", width=BAR + 6, no_wrap=True)
    table.add_column("last decision", ratio=7, no_wrap=True)
    for line in board.lines:
        table.add_row(_name(line), _rps(line), _replicas(line), _idle(line), _last(line))
    return table


def _name(line: Line) -> Text:
    short = line.name.split("/")[-1]
    text = Text(short, "bold" if line.runs else "strike dim")
    return text.append(f" {line.holders}", "dim not bold")


def _rps(line: Line) -> Text:
    return Text(f"{line.rps:.0f}", "bold" if line.rps >= 1 else "dim")


def _replicas(line: Line) -> Text:
    if not line.runs:
        return Text("none", "dim")
    text = Text("■" * line.replicas, "green")
    if line.wanted is not None and line.wanted > line.replicas:
        text.append("□" * (line.wanted - line.replicas), "green")
    return text.append(f" {line.replicas}" + (f"→{line.wanted}" if line.wanted is not None else ""), "dim")


def _idle(line: Line) -> Text:
    """A bar that fills towards the warning mark and on to the cancelling."""
    mark = round(BAR * (N - Y) / N)
    full = min(BAR, round(BAR * line.idle / N)) if line.runs else 0
    text = Text()
    for cell in range(BAR):
        colour = "yellow" if cell >= mark else "blue"
        text.append("█" if cell < full else ("┊" if cell == mark else "·"), colour if cell < full else "dim")
    return text.append(f" {line.idle:3.0f}s" if line.runs else "", "dim")


def _last(line: Line) -> Text:
    return Text.assemble((line.state, COLOURS.get(line.state, "green")), f"  {line.last}")


def _happenings(board: Board) -> Panel:
    text = Text(no_wrap=True, overflow="ellipsis")
    for at, model, what in board.happenings:
        text.append(f"{clock(at)} ", "dim").append(f"{model.split('/')[-1]:<20} ", "bold").append(what + "\n")
    return Panel(text, title="what happens", title_align="left", border_style="dim", height=LAST + 2)


class View:
    """Shows the board as it changes; where there is no terminal, prints each happening as a line."""

    def __init__(self) -> None:
        self.console = Console()
        self.board = Board()
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> "View":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def phase(self, text: str) -> None:
        """What is being prepared or waited for."""
        self.board.phase = text
        if self._live is None:
            print(f"{clock(self.board.elapsed)}  {text}", flush=True)
        self.refresh()

    def happened(self, model: str, what: str) -> None:
        self.board.happenings.append((self.board.elapsed, model, what))
        if self._live is None:
            print(f"{clock(self.board.elapsed)}  {model:<24} {what}", flush=True)

    def refresh(self) -> None:
        if self._live:
            self._live.update(render(self.board), refresh=True)

    def summary(self, facts: Facts, exits: dict[str, int]) -> bool:
        """The expectations and what was seen of each; returns whether all hold."""
        table = Table(title="What was expected, and what was seen", title_justify="left", expand=True)
        table.add_column("", width=2)
        table.add_column("expected", ratio=5)
        table.add_column("seen", ratio=3)
        results = [(wish.holds(facts), wish.title, str(wish.seen(facts))) for wish in EXPECTATIONS]
        codes = ", ".join(f"{name} {code}" for name, code in exits.items())
        results.append((set(exits.values()) == {0}, "both replicas stop cleanly when told to (exit code 0)", codes))
        for held, title, seen in results:
            table.add_row(Text("✔", "green") if held else Text("✘", "bold red"), title, seen)
        self.console.print(table)
        return all(held for held, _, _ in results)
