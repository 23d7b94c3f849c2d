"""The demo's story: what the users do, who is killed, and how it reads."""

from typing import Any, cast

import pytest

from dev.demo.facts import Facts
from dev.demo.happenings import Happening, logged, mail
from dev.demo.script import Script
from dev.demo.story import ANN, BEN, BUSY, DAN, FINN, GUS, KEPT, RETURNED, SHARED, begin, hang_in_the_middle
from dev.demo.takeover import Takeover
from dev.demo.view import plain
from dev.fake_platform.platform import Platform
from tests.unit.demo.telling import delete, event


def test_the_users_play_their_part_once() -> None:
    asked: list[dict[str, str]] = []
    script = Script(begin(Platform()), asked.append)
    assert script.play(1.0) == []
    assert [happening.model for happening in script.play(30.0)] == [BUSY]
    script.facts.events += [event(user, "warning") for user in (ANN, BEN, FINN)]
    assert script.play(31.0) == []
    assert [happening.model for happening in script.play(40.0)] == [RETURNED, SHARED, KEPT]
    assert [(request["command"], request["model"], request["user_id"]) for request in asked] == [
        ("keep", KEPT, str(FINN))
    ]
    script.facts.events.append(event(BEN, "cancelled"))
    assert script.play(41.0) == []
    assert [happening.model for happening in script.play(45.0)] == [SHARED]
    assert script.play(50.0) == []


class Running:
    """A replica, as much of it as a takeover needs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = self
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> int:
        return -9


async def test_the_runner_is_killed_once_its_delete_hangs_and_another_replica_takes_its_place() -> None:
    facts = begin(Platform())
    hanging, replicas = hang_in_the_middle(facts), [Running("replica-1"), Running("replica-2")]
    takeover = Takeover(facts, cast(Any, replicas), cast(Any, Running), hanging)
    takeover.note("replica-1", {"event": "run_started", "job": "idle_enforce"})
    takeover.note("replica-2", {"event": "run_started", "job": "rps_check"})
    assert await takeover.play() == []
    delete(facts, facts.expected_gone[GUS][0])
    hanging.left, first = 0, replicas[0]
    assert [happening.kind for happening in await takeover.play()] == ["kill -9", "start"]
    assert (first.killed, facts.killed, facts.gone_when_killed) == (True, "replica-1", 1)
    assert [replica.name for replica in replicas] == ["replica-3", "replica-2"]
    assert await takeover.play() == []


def test_the_replica_that_ends_a_cancelling_is_noted_with_what_kept_the_model() -> None:
    facts = Facts(Platform())
    facts.note("replica-1", {"event": "decided", "model": SHARED, "reason": "booked_soon"})
    facts.note("replica-2", {"event": "enforced", "model": SHARED, "reason": "booked_soon"})
    facts.note("replica-2", {"event": "enforced", "model": BUSY, "reason": "deadline_passed"})
    assert (facts.ended_by, facts.held_back) == ({SHARED: "replica-2", BUSY: "replica-2"}, {"booked_soon"})


def test_log_lines_become_happenings_with_their_reason() -> None:
    scaled = {"event": "decided", "decision": "scale_up", "model": BUSY, "reason": "overloaded"}
    said = {"message": f"scale_up {BUSY}: 12.0 RPS per replica: 1 → 3"}
    assert logged(scaled | said) == Happening("scale_up", BUSY, "12.0 RPS per replica: 1 → 3", "overloaded")
    assert logged({"event": "decided", "decision": "hold", "model": BUSY, "message": "hold"}) is None
    assert logged({"event": "run_ended", "message": "rps_check completed"}) is None
    lost = {"event": "run_lost", "job": "idle_enforce", "message": "its work goes on here"}
    assert logged(lost) == Happening("takeover", "all models", "idle_enforce: its work goes on here")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (event(BEN, "cancelled", "a", "b"), "cancelled, 2 slots cancelled"),
        (event(DAN, "cancelled", "a", uninstalled=True), "cancelled, 1 slot cancelled, model uninstalled"),
        (event(BEN, "warning", "a", "b"), "warning, 2 slots at risk"),
        (event(DAN, "warning", "a"), "warning, 1 slot at risk"),
        (event(FINN, "withdrawn", reason="kept"), "withdrawn  kept"),
    ],
)
def test_a_mail_says_how_many_slots_and_why(told: dict[str, Any], words: str) -> None:
    assert plain(65, mail(told)) == f"01:05  mail        {'m':<22}  to u@example.org: {words}"
