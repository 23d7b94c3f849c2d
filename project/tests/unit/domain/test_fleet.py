"""A fleet that is read only in part: who is gone, and what is known of those that cannot be understood."""

from uuid import UUID

import pytest

from limiter.domain.fleet import Fleet, ScalingState, last_known_fleet
from tests.unit.domain.build import START, served

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


def state(number: int, name: str = "m", replicas: int = 3) -> ScalingState:
    return ScalingState(UUID(int=number), name, replicas, START)


@pytest.mark.parametrize(
    ("fleet", "gone"),
    [
        (Fleet((served(1),)), {TWO, THREE}),
        (Fleet((served(1),), unreadable=frozenset({TWO})), {THREE}),
        (Fleet((served(1),), complete=False), set()),
        (Fleet((served(1),), complete=False, unreadable=frozenset({TWO})), set()),
    ],
)
def test_gone_is_who_is_neither_understood_nor_known_by_its_id_in_a_whole_list(fleet: Fleet, gone: set[UUID]) -> None:
    assert {id for id in (ONE, TWO, THREE) if fleet.is_gone(id)} == gone


def test_an_instance_that_cannot_be_understood_counts_with_its_last_name_and_replicas() -> None:
    fleet = Fleet((served(2, "m", 1),), unreadable=frozenset({ONE})).with_last_known([state(1), state(2), state(3)])
    assert fleet.replicas_by_name == {"m": 4}
    assert [model.id for model in fleet.by_name["m"]] == [ONE, TWO]
    assert fleet.unsure_names == {"m"}


def test_nothing_is_decided_about_what_is_only_remembered() -> None:
    fleet = Fleet((served(2, "m", 1),), unreadable=frozenset({ONE})).with_last_known([state(1)])
    assert set(fleet.by_id) == {TWO}
    assert [model.id for model in fleet.models] == [TWO]


def test_without_every_id_all_that_is_remembered_may_still_run() -> None:
    fleet = Fleet((served(2, "m", 1),), complete=False).with_last_known([state(1), state(2), state(3, "n", 2)])
    assert fleet.replicas_by_name == {"m": 4, "n": 2}


def test_a_fleet_understood_whole_is_the_same_with_what_is_remembered() -> None:
    fleet = Fleet((served(1), served(2)))
    assert fleet.with_last_known([state(1, replicas=9), state(3)]) is fleet
    assert fleet.unsure_names == frozenset()


def test_an_unreadable_instance_that_was_never_seen_is_known_by_its_id_only() -> None:
    fleet = Fleet((), unreadable=frozenset({ONE})).with_last_known([])
    assert fleet.replicas_by_name == {}
    assert not fleet.is_gone(ONE)


def test_without_the_registry_the_models_are_as_they_were_and_none_is_gone() -> None:
    known = last_known_fleet([state(1, "m", 2), state(2, "n")])
    assert known.models == (served(1, "m", 2), served(2, "n", 3))
    assert not known.complete
