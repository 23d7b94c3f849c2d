"""The demo's expectations: a good run meets them all, and each can fail."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from dev.demo.expectations import CLEAN_STOP, EXPECTATIONS
from dev.demo.facts import Facts
from dev.demo.script import Script
from dev.demo.story import ANN, BEN, BUSY, DAN, EVE, FINN, FORGOTTEN, GUS, SHARED, TAKEN_OVER, begin
from dev.demo.view import View
from dev.fake_platform.platform import Command, Platform
from tests.unit.demo.telling import delete, event


def command(facts: Facts, model: str, replicas: int | None) -> None:
    kind: Any = "scale" if replicas else "uninstall"
    facts.platform.commands.append(Command(0.0, kind, uuid4(), model, replicas, uuid4()))


def remove(facts: Facts, name: str) -> None:
    facts.platform.remove_model(next(model for model in facts.platform.models if model.name == name))


@pytest.fixture
def story() -> Facts:
    """Everything that a good run leaves behind."""
    facts = begin(Platform())
    for replicas in (4, 1):
        command(facts, BUSY, replicas)
    command(facts, FORGOTTEN, None)
    gone = facts.expected_gone
    delete(facts, *gone[BEN], *gone[DAN], *gone[GUS])
    remove(facts, FORGOTTEN)
    facts.events += [event(ANN, "warning", "a2"), event(ANN, "withdrawn", reason="used")]
    facts.events += [event(user, "warning", *gone[user]) for user in (BEN, DAN, GUS)]
    facts.events += [event(BEN, "cancelled", *gone[BEN]), event(DAN, "cancelled", *gone[DAN], uninstalled=True)]
    facts.events += [event(GUS, "cancelled", *gone[GUS], uninstalled=True)]
    finns = facts.expected_kept["finn's following slot"]
    facts.events += [event(FINN, "warning", finns), event(FINN, "withdrawn", reason="kept")]
    Script(facts, print).ben_books_on()
    facts.held_back = {"booked_soon"}
    facts.killed, facts.gone_when_killed, facts.ended_by = "replica-1", 1, {TAKEN_OVER: "replica-2"}
    return facts


def broken(facts: Facts) -> list[str]:
    return [expected.title for expected in EXPECTATIONS if not expected.is_met(facts)]


def forget_events(facts: Facts, user: UUID, stage: str) -> None:
    facts.events = [
        event for event in facts.events if (event["user"]["id"], event["reservation"]["stage"]) != (str(user), stage)
    ]


def retell(facts: Facts, told: dict[str, Any]) -> None:
    """Put this event in the place of that of the same user and stage."""
    user, stage = UUID(told["user"]["id"]), told["reservation"]["stage"]
    forget_events(facts, user, stage)
    facts.events.append(told)


def test_a_good_run_meets_every_expectation(story: Facts) -> None:
    assert broken(story) == []


BREACHES: list[tuple[str, Callable[[Facts], object]]] = [
    ("36 RPS", lambda facts: command(facts, BUSY, 1)),
    ("36 RPS", lambda facts: facts.platform.commands.pop(0)),
    ("steady use", lambda facts: facts.events.append(event(EVE, "warning"))),
    ("ann is warned", lambda facts: forget_events(facts, ANN, "withdrawn")),
    ("ann is warned", lambda facts: facts.events.append(event(ANN, "cancelled"))),
    ("ben's warning", lambda facts: forget_events(facts, BEN, "warning")),
    ("ben's warning", lambda facts: facts.platform.deletions.pop(0)),
    ("ben's warning", lambda facts: retell(facts, event(BEN, "warning", "another slot"))),
    ("ben's warning", lambda facts: retell(facts, event(BEN, "cancelled", *facts.expected_gone[BEN][:1]))),
    ("no warning named", lambda facts: facts.expected_kept.update({"cleo's slot": "no such slot"})),
    ("no warning named", lambda facts: facts.expected_kept.pop("the slot ben booked after the warning")),
    ("is kept", lambda facts: retell(facts, event(FINN, "withdrawn", reason="used"))),
    ("is kept", lambda facts: delete(facts, *facts.named(FINN))),
    ("killed in the middle", lambda facts: setattr(facts, "gone_when_killed", 3)),
    ("killed in the middle", lambda facts: setattr(facts, "killed", "replica-2")),
    ("killed in the middle", lambda facts: facts.platform.deletions.append(facts.platform.deletions[-1])),
    ("killed in the middle", lambda facts: facts.events.append(event(GUS, "cancelled", *facts.expected_gone[GUS]))),
    (
        "killed in the middle",
        lambda facts: retell(facts, event(GUS, "cancelled", *facts.expected_gone[GUS], already_gone=True)),
    ),
    ("one closing event", lambda facts: forget_events(facts, FINN, "withdrawn")),
    ("one closing event", lambda facts: facts.events.append(event(EVE, "withdrawn"))),
    ("nobody else", lambda facts: delete(facts, *facts.expected_kept.values())),
    ("stays installed", lambda facts: remove(facts, SHARED)),
    ("stays installed", lambda facts: facts.held_back.clear()),
    ("dan's following", lambda facts: facts.platform.add_model(FORGOTTEN)),
    ("dan's following", lambda facts: forget_events(facts, DAN, "cancelled")),
    ("nobody else", lambda facts: facts.platform.violations.append("two unfinished commands")),
]


@pytest.mark.parametrize(("title", "breach"), BREACHES)
def test_what_is_missing_or_too_much_breaks_its_expectation(
    story: Facts, title: str, breach: Callable[[Facts], object]
) -> None:
    breach(story)
    assert any(title in missing for missing in broken(story)), broken(story)


def test_nothing_that_should_happen_counts_as_happened_at_the_beginning() -> None:
    missing = broken(begin(Platform()))
    # Before anything has happened, only what must not happen is as expected.
    assert len(EXPECTATIONS) - len(missing) == 2, missing


def test_the_summary_names_what_is_missing(story: Facts, capsys: pytest.CaptureFixture[str]) -> None:
    assert View().summary(story, EXPECTATIONS)
    assert "missing" not in capsys.readouterr().out
    story.platform.commands.clear()
    assert not View().summary(story, EXPECTATIONS)
    assert "missing: 36 RPS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("exits", "clean"),
    [({"replica-1": 0, "replica-2": 0}, True), ({"replica-1": 0, "replica-2": -9}, False), ({}, False)],
)
def test_a_replica_that_does_not_stop_cleanly_breaks_the_demo(exits: dict[str, int], *, clean: bool) -> None:
    assert CLEAN_STOP.is_met(Facts(Platform(), exits=exits)) is clean
