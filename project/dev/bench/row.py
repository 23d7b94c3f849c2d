"""One row of the table of parts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One part: the seconds it takes here, by the peer, and by the limit, the least that any code could take."""

    work: str
    ours: float
    rival: float | None = None
    limit: float | None = None
    bar: str = ""
    note: str = ""  # what else was found

    def shown(self) -> str:
        """A row of the table."""
        rival = f"1/{self.rival / self.ours:.1f} of the peer" if self.rival else ""
        limit = f"{self.ours / self.limit:.1f} x the limit" if self.limit else ""
        return f"| {self.work} | {1000 * self.ours:.0f} ms | {rival} | {limit} | {self.bar} | {self.note} |"
