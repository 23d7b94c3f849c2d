"""What died old is freed, and a large fleet is never looked through."""

import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from limiter import garbage


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def _by_hand() -> Iterator[None]:
    """No collection but by this test, and of nothing that was there before it."""
    gc.disable()
    gc.freeze()
    yield
    gc.enable()


def old_circle() -> ref[Circle]:
    """A circle that nobody uses any more, but that was in use at two small collections."""
    circle = Circle()
    for _ in range(2):
        gc.collect(1)
    return ref(circle)


@pytest.mark.usefixtures("_by_hand")
def test_what_died_old_is_freed_though_small_collections_pass_it_over() -> None:
    circle = old_circle()
    gc.collect(1)
    assert circle() is not None
    garbage.collect_old()
    assert circle() is None


@pytest.mark.usefixtures("_by_hand")
def test_what_takes_too_long_to_look_through_is_left_out_and_what_dies_later_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "MOST_LOOKED_THROUGH", 1_000)
    fleet = [[number] for number in range(1_001)]
    gc.collect(1)
    before = gc.get_freeze_count()
    garbage.collect_old()
    assert gc.get_freeze_count() >= before + len(fleet)
    circle = old_circle()
    garbage.collect_old()
    assert circle() is None
