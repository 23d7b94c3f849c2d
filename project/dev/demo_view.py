"""What a person sees of the demo: a live table in a terminal, plain lines elsewhere."""

from collections import deque
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dev.demo_story import Expectation, Facts, Happening, N, Y

LAST = 10  # happenings shown
WIDE = 100  # columns from which on the idle bar and the names get more room
COLOURS = {
    "not booked": "dim",
    "in use": "green",
    "unused": "cyan",
    "warned": "yellow",
    "cancelling": "red",
    "cancelled": "red",
    "uninstalled": "magenta",
}
KINDS = {
    "scale_up": "green",
    "scale_down": "blue",
    "warn": "yellow",
    "withdraw": "cyan",
    "cancel": "red",
    "cancelled": "red",
    "uninstall": "magenta",
    "mail": "bold white",
    "users": "bold white",
    "distrust": "yellow",
    "critical": "bold red",
}


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
    why: str = ""

    @property
    def runs(self) -> bool:
        return self.replicas > 0


@dataclass
class Board:
    """Everything on show."""

    elapsed: float = 0.0
    phase: str = ""
    replicas: dict[str, str] = field(default_factory=dict)
    last_job: str = ""
    lines: list[Line] = field(default_factory=list)
    happenings: deque[tuple[float, Happening]] = field(default_factory=lambda: deque(maxlen=LAST))


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def short(model: str) -> str:
    """The name without its maker."""
    return model.split("/")[-1]


def state_of(spell: str | None, idle: float, *, held: bool, runs: bool) -> str:
    """What a person calls the state of a model; `spell` is the latest idle spell's state."""
    if not runs:
        return "uninstalled"
    match spell:
        case "warning_pending" | "warned":
            return "warned"
        case "enforcing":
            return "cancelling"
        case "enforced":
            return "cancelled"
    if not held:
        return "not booked"
    return "unused" if idle > Y / 2 else "in use"


def render(board: Board, columns: int) -> Group:
    """The whole screen, for a terminal so wide."""
    return Group(_header(board), _table(board, columns), _happenings(board, columns))


def _header(board: Board) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(" rps-limiter ", "bold white on blue").append(f" {clock(board.elapsed)} ")
    for name, health in board.replicas.items():
        ready = health == "ready"
        text.append(f" {name} ").append("●" if ready else f"○ {health}", "green" if ready else "red")
    return text.append(f"  {board.last_job}", "dim")


def _table(board: Board, columns: int) -> Table:
    bar = 16 if columns >= WIDE else 8
    table = Table(expand=True, box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("model", width=20 if columns >= WIDE else 15, no_wrap=True)
    table.add_column("held by", width=9, no_wrap=True)
    table.add_column("RPS", width=3, justify="right", no_wrap=True)
    table.add_column("replicas", width=8, no_wrap=True)
    title = f"warn ┊{N - Y}s, end {N}s" if columns >= WIDE else f"idle ┊{N - Y}s {N}s"
    table.add_column(title, width=bar + 5, no_wrap=True)
    table.add_column("state", width=11, no_wrap=True)
    table.add_column("last done: why" if columns >= WIDE else "why", ratio=1, no_wrap=True)
    for line in board.lines:
        state = Text(line.state, COLOURS.get(line.state, ""))
        last = Text(f"{line.last}: {line.why}" if line.last and columns >= WIDE else line.why, "dim")
        table.add_row(_name(line), _holders(line), _rps(line), _replicas(line), idle_bar(line, bar), state, last)
    return table


def _name(line: Line) -> Text:
    return Text(short(line.name), "bold" if line.runs else "strike dim")


def _holders(line: Line) -> Text:
    return Text(line.holders or "-", "" if line.holders else "dim")


def _rps(line: Line) -> Text:
    return Text(f"{line.rps:.0f}", "bold" if line.rps >= 0.5 else "dim")


def _replicas(line: Line) -> Text:
    """A block for each replica, a hollow one for each that is on its way."""
    if not line.runs:
        return Text("none", "dim")
    wanted = line.replicas if line.wanted is None else line.wanted
    staying = min(wanted, line.replicas)
    text = Text("■" * staying, "green").append("■" * (line.replicas - staying), "red")
    text.append("□" * (wanted - staying), "green")
    arrow = f"→{wanted}" if wanted != line.replicas else ""
    return text.append(f" {line.replicas}{arrow}", "dim")


def idle_bar(line: Line, cells: int) -> Text:
    """A bar that fills towards the warning mark and on to the cancelling."""
    if not line.runs or not line.holders:
        return Text("")
    mark = round(cells * (N - Y) / N)
    full = min(cells, round(cells * line.idle / N))
    text = Text()
    for cell in range(cells):
        colour = "yellow" if cell >= mark else "blue"
        text.append("█" if cell < full else ("┊" if cell == mark else "·"), colour if cell < full else "dim")
    return text.append(f" {line.idle:3.0f}s", "dim")


def _happenings(board: Board, columns: int) -> Panel:
    text = Text(no_wrap=True, overflow="ellipsis")
    name = 16 if columns >= WIDE else 15
    for at, happening in board.happenings:
        text.append(f"{clock(at)} ", "dim").append(f"{happening.kind:<10} ", KINDS.get(happening.kind, "dim"))
        text.append(f"{short(happening.model):<{name}} ", "bold").append(happening.what)
        text.append(f"{'  ' if happening.what else ''}{happening.why}\n", "italic dim")
    return Panel(
        text,
        title="what happens",
        subtitle=Text(board.phase, "dim"),
        title_align="left",
        subtitle_align="right",
        border_style="dim",
        height=LAST + 2,
    )


def plain(at: float, happening: Happening) -> str:
    """One happening as a line of text."""
    line = f"{clock(at)}  {happening.kind:<10}  {happening.model:<22}  {happening.what}"
    return f"{line}  {happening.why}".rstrip()


class View:
    """Shows the board as it changes; where there is no terminal, prints each happening as a line."""

    def __init__(self) -> None:
        self.console = Console()
        self.board = Board()
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._latest: Happening | None = None

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

    def happened(self, happening: Happening) -> None:
        """Show it, unless it only repeats what was shown last."""
        if happening == self._latest:
            return
        self._latest = happening
        self.board.happenings.append((self.board.elapsed, happening))
        if self._live is None:
            print(plain(self.board.elapsed, happening), flush=True)

    def refresh(self) -> None:
        if self._live:
            self._live.update(render(self.board, self.console.width), refresh=True)

    def summary(self, facts: Facts, wishes: tuple[Expectation, ...]) -> bool:
        """The expectations and what was seen of each; returns whether all hold, and names those that do not."""
        table = Table(title="What was expected, and what was seen", title_justify="left", expand=True)
        table.add_column("", width=2)
        table.add_column("expected", ratio=5)
        table.add_column("seen", ratio=3)
        missing = [wish for wish in wishes if not wish.holds(facts)]
        for wish in wishes:
            mark = Text("✘", "bold red") if wish in missing else Text("✔", "green")
            table.add_row(mark, Text(wish.title), Text(str(wish.seen(facts))))
        self.console.print(table)
        for wish in missing:
            self.console.print(Text(f"missing: {wish.title}", "bold red"))
        if not missing:
            self.console.print(Text(f"All {len(wishes)} expectations hold.", "green"))
        return not missing
