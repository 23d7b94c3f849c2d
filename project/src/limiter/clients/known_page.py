"""What is known of a page once it was read: its label sets in their order, and what each of them means."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from limiter.clients.label_sets import Family, Shape
from limiter.domain.columns import Layout


class SeriesNames(Sequence[str]):
    """The canonical series of label sets, made when asked for: most are never written anywhere."""

    def __init__(self, family: Family, shape: Shape | None, raws: Sequence[bytes]) -> None:
        """`shape` is that of most of the label sets; all of them count."""
        self._family = family
        self._shape = shape
        self._raws = raws

    def __len__(self) -> int:
        return len(self._raws)

    def __getitem__(self, place: int) -> str:  # type: ignore[override]
        return self._series(self._raws[place])

    def __iter__(self) -> Iterator[str]:
        return map(self._series, self._raws)

    def _series(self, raw: bytes) -> str:
        series = self._shape.series(raw) if self._shape else None
        if series is None:
            parsed = self._family.parsed(raw)
            assert parsed is not None
            series = parsed[0]
        return series


@dataclass(frozen=True, slots=True)
class KnownPage:
    """A page's label sets with their models' names (None: does not count), and the layout of those that count."""

    raws: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    shape: Shape | None = None  # of every label set; None if they are of several
    layout: Layout = field(default_factory=lambda: Layout((), ()))

    @property
    def counts(self) -> list[bool] | None:
        """Which label sets count; None if all do."""
        return None if len(self.layout.names) == len(self.names) else [name is not None for name in self.names]


class SeriesCache:
    """What is known of the series of one process; kept between pages."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.page = KnownPage()
