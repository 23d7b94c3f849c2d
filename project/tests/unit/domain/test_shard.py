"""Which share of a platform minds a model."""

from collections import Counter
from uuid import UUID

import pytest

from limiter.clients.label_sets import Family
from limiter.domain.reservations import Bookings
from limiter.domain.shard import EVERY_MODEL, Shard
from tests.unit.domain.build import reservation, slot


@pytest.mark.parametrize("of", [2, 3, 7])
def test_every_name_is_minded_by_exactly_one_share_and_they_are_about_equal(of: int) -> None:
    shards, names = [Shard(number, of) for number in range(of)], [f"Team/Model-{number}" for number in range(7000)]
    minded = Counter(str(shard) for name in names for shard in shards if shard.minds(name))
    assert minded.total() == len(names)
    assert min(minded.values()) > 0.9 * len(names) / of


def test_the_hash_is_the_crc_of_the_names_bytes_whatever_the_machine() -> None:
    assert [Shard(0, 1000).of_name(name) for name in ("", "m", "Zürich/Modell")] == [0, 192, 133]
    assert EVERY_MODEL.minds("anything")
    assert str(Shard(1, 2)) == "1/2"


def test_a_series_of_another_share_does_not_count() -> None:
    families = [Family("calls", "model_name", {}, Shard(number, 2)) for number in range(2)]
    found = [family.series({"model_name": "m"}) for family in families]
    assert [series and series[1] for series in found] == ["m", None]


def test_a_reservation_counts_by_its_models_id_or_by_its_name() -> None:
    own, other, renamed = (
        reservation(slot(0, 60, of=f"r{number}"), name=name, model=number)
        for number, name in ((1, "m"), (2, "n"), (3, "n"))
    )
    kept = Bookings((own, other, renamed), frozenset({"n"})).of_models({UUID(int=3)}, lambda name: name == "m")
    assert kept == Bookings((own, renamed), frozenset({"n"}))
