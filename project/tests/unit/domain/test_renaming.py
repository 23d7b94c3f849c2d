"""What was known of a model's use by its former name, and its keeps, go along to its new one."""

from dataclasses import replace

import pytest

from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.keep import Keep
from limiter.domain.rates import Sample
from limiter.domain.renaming import with_former_keeps, with_former_use
from limiter.domain.settled import Settled
from limiter.domain.usage import Memory, Observation, Usage
from tests.unit.domain.build import ANNA, at, served

STATES = {one.id: ScalingState(one.id, "old", 1, at(0)) for one in (served(1), served(2))}
RENAMED = Fleet((served(1, "new"), served(2, "old")))
CALLS = (Sample(at(20).timestamp(), 15.0, 3.0),)


def observed(**used: float) -> Observation:
    """A reading by which the names were last used so many seconds after the beginning, with calls of `new`."""
    usage = {name: Usage(at(seconds), CALLS if name == "new" else ()) for name, seconds in used.items()}
    return Observation(at(60), Memory(usage=usage), True, (), frozenset(), frozenset(), ())


@pytest.mark.parametrize(
    ("old", "new", "after"), [(30, None, 30), (30, 20, 30), (30, 30, 30), (30, 40, 40), (None, 20, 20)]
)
def test_the_later_use_counts_and_the_calls_of_the_new_name_stay(
    old: float | None, new: float | None, after: float
) -> None:
    used = {name: seconds for name, seconds in (("old", old), ("new", new)) if seconds is not None}
    usage = with_former_use(observed(**used), RENAMED, STATES).memory.usage
    assert usage["new"] == Usage(at(after), CALLS if new else ())
    assert usage.get("old") == (None if old is None else Usage(at(old)))


def test_a_model_that_kept_its_name_or_is_new_changes_nothing() -> None:
    found = observed(old=30)
    assert with_former_use(found, Fleet((served(1, "old"), served(3, "new"))), STATES) is found
    assert with_former_use(observed(), RENAMED, STATES) == observed()


def test_with_only_one_model_no_other_is_looked_at() -> None:
    found = observed(old=30)
    assert "new" in with_former_use(found, RENAMED, STATES, only=served(1).id).memory.usage
    assert with_former_use(found, RENAMED, STATES, only=served(2).id) is found
    assert with_former_use(found, RENAMED, STATES, only=served(3).id) is found


def test_of_the_very_fleet_that_was_decided_about_nothing_is_looked_at() -> None:
    found, last = observed(old=30), Settled(None, RENAMED, STATES, frozenset())  # type: ignore[arg-type]
    assert with_former_use(found, RENAMED, STATES, last) is found
    assert with_former_use(found, replace(RENAMED), STATES, last) is not found


def test_a_keep_goes_along_once() -> None:
    old, other = Keep("old", ANNA.id, at(0), at(90)), Keep("other", None, at(0), at(90))
    kept = with_former_keeps((old, other), RENAMED, STATES)
    assert kept == (old, other, replace(old, model_name="new"))
    assert with_former_keeps(kept, RENAMED, STATES) == kept
    assert with_former_keeps(kept[:2], RENAMED, STATES, only=served(2).id) == kept[:2]
