"""A surge: above the number and above the share, both."""

from dataclasses import replace

import pytest

from limiter.domain.audit import standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.surge import Surge, SurgeKind, is_surge, turned_idle
from limiter.domain.verdict import Verdict
from tests.unit.domain.build import ANNA, BORIS, START, served


@pytest.mark.parametrize(
    ("new", "all", "surge"),
    [
        (21, 41, True),
        (21, 42, False),  # half of all is not more than half
        (22, 42, True),
        (20, 20, False),  # so few may be a whole team that went home
        (21, 21, True),
        (0, 0, False),
    ],
)
def test_a_surge_is_more_than_the_number_and_more_than_the_share(new: int, all: int, surge: bool) -> None:
    assert is_surge(new, all, 20, 0.5) is surge


def test_a_surge_is_allowed_once_somebody_said_so() -> None:
    surge = Surge(SurgeKind.WARNING, START)
    assert not surge.allowed
    assert replace(surge, allowed_at=START).allowed


@pytest.mark.parametrize(
    ("decision", "reason", "new"),
    [(Decision.HOLD, Reason.ADDRESS_UNKNOWN, 1), (Decision.HOLD, Reason.SURGE, 2), (Decision.HOLD, Reason.IN_USE, 2)],
)
def test_who_waited_for_an_address_already_did_not_turn_idle_now(decision: Decision, reason: Reason, new: int) -> None:
    one, other = ((served().id, user.id) for user in (ANNA, BORIS))
    warn = Verdict(Decision.WARN, Reason.UNUSED)
    assert turned_idle({one: warn, other: warn}, {one: standing_of(decision, reason)}) == new
    assert turned_idle({one: Verdict(Decision.HOLD, Reason.IN_USE)}, {}) == 0
