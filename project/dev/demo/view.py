"""What a person sees of the demo: a live table in a terminal, plain lines elsewhere."""

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dev.demo.board import LAST, Board, Line
from dev.demo.expectations import Expectation
from dev.demo.facts import Facts
from dev.demo.happenings import Happening
from dev.demo.story import N, Y

WIDE = 100  # columns of a terminal in which the idle bar and the names get more room
COLOURS = {
    "not booked": "dim",
    "in use": "green",
    "unused": "cyan",
    "warned": "yellow",
    "kept": "bold cyan",
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
    "keep": "bold cyan",
    "kill -9": "bold red",
    "takeover": "bold green",
    "start": "bold green",
    "distrust": "yellow",
    "critical": "bold red",
}


def clock(seconds: float) -> str:
    """Seconds as `mm:ss`."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def short(model: str) -> str:
    """The name without its maker."""
    return model.split("/")[-1]


def render(board: Board, columns: int) -> Group:
    """The whole screen, for a terminal of so many columns."""
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
    table.add_column("booked by", width=9, no_wrap=True)
    table.add_column("RPS", width=3, justify="right", no_wrap=True)
    table.add_column("replicas", width=8, no_wrap=True)
    title = f"warn ┊{N - Y}s, end {N}s" if columns >= WIDE else f"idle ┊{N - Y}s {N}s"
    table.add_column(title, width=bar + 5, no_wrap=True)
    table.add_column("state", width=11, no_wrap=True)
    table.add_column("last done: why" if columns >= WIDE else "why", ratio=1, no_wrap=True)
    for line in board.lines:
        state = Text(line.state, COLOURS.get(line.state, ""))
        last = Text(f"{line.last}: {line.why}" if line.last and columns >= WIDE else line.why, "dim")
        table.add_row(_name(line), _users(line), _rps(line), _replicas(line), idle_bar(line, bar), state, last)
    return table


def _name(line: Line) -> Text:
    return Text(short(line.name), "bold" if line.runs else "strike dim")


def _users(line: Line) -> Text:
    return Text(line.users or "-", "" if line.users else "dim")


def _rps(line: Line) -> Text:
    return Text(f"{line.rps:.0f}", "bold" if line.rps >= 0.5 else "dim")


def _replicas(line: Line) -> Text:
    """A block for each replica, a hollow one for each that an unfinished command adds."""
    if not line.runs:
        return Text("none", "dim")
    wanted = line.replicas if line.wanted is None else line.wanted
    staying = min(wanted, line.replicas)
    text = Text("■" * staying, "green").append("■" * (line.replicas - staying), "red")
    text.append("□" * (wanted - staying), "green")
    arrow = f"→{wanted}" if wanted != line.replicas else ""
    return text.append(f" {line.replicas}{arrow}", "dim")


def idle_bar(line: Line, cells: int) -> Text:
    """A bar of so many cells that fills up to the warning mark and on to the cancellation."""
    if not line.runs or not line.users:
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
        """Show what is being prepared or waited for."""
        self.board.phase = text
        if self._live is None:
            print(f"{clock(self.board.elapsed)}  {text}", flush=True)
        self.refresh()

    def happened(self, happening: Happening) -> None:
        """Show it, unless it repeats what was shown last."""
        if happening == self._latest:
            return
        self._latest = happening
        self.board.happenings.append((self.board.elapsed, happening))
        if self._live is None:
            print(plain(self.board.elapsed, happening), flush=True)

    def refresh(self) -> None:
        if self._live:
            self._live.update(render(self.board, self.console.width), refresh=True)

    def summary(self, facts: Facts, expectations: tuple[Expectation, ...]) -> bool:
        """Print the expectations and what happened of each; returns whether all hold."""
        table = Table(title="What was expected, and what happened", title_justify="left", expand=True)
        table.add_column("", width=2)
        table.add_column("expected", ratio=5)
        table.add_column("happened", ratio=3)
        missing = [expectation for expectation in expectations if not expectation.is_met(facts)]
        for expectation in expectations:
            mark = Text("✘", "bold red") if expectation in missing else Text("✔", "green")
            table.add_row(mark, Text(expectation.title), Text(expectation.shown(facts)))
        self.console.print(table)
        for expectation in missing:
            self.console.print(Text(f"missing: {expectation.title}", "bold red"))
        if not missing:
            self.console.print(Text(f"All {len(expectations)} expectations hold.", "green"))
        return not missing
