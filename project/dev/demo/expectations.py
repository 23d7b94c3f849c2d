"""What must have happened by the end of the demo."""

from collections.abc import Callable
from dataclasses import dataclass

from dev.demo.facts import Facts
from dev.demo.story import (
    ANN,
    BEN,
    BUSY,
    DAN,
    EVE,
    FINN,
    FORGOTTEN,
    GUS,
    KEPT,
    NAMES,
    SHARED,
    STEADY,
    TAKEN_OVER,
)
from dev.wording import counted

CLOSED = (["warning", "withdrawn"], ["warning", "cancelled"])


@dataclass(frozen=True)
class Expectation:
    """One thing that must have happened, and what the summary shows of it."""

    title: str
    is_met: Callable[[Facts], bool]
    shown: Callable[[Facts], str]


def _loses_what_was_named(facts: Facts) -> bool:
    expected = facts.expected_gone[BEN]
    return (
        facts.stages(BEN) == ["warning", "cancelled"]
        and facts.named(BEN) == facts.cancelled(BEN) == expected
        and set(expected) <= set(facts.deleted())
    )


def _is_taken_over(facts: Facts) -> bool:
    named = facts.expected_gone[GUS]
    return (
        0 < facts.gone_when_killed < len(named)
        and facts.ended_by.get(TAKEN_OVER) not in (None, facts.killed)
        and facts.times_deleted(GUS) == [1] * len(named)
        and facts.named(GUS) == facts.cancelled(GUS) == named
        and facts.stages(GUS) == ["warning", "cancelled"]
    )


def _nobody_else(facts: Facts) -> bool:
    expected = {slot for slots in facts.expected_gone.values() for slot in slots}
    return set(facts.deleted()) <= expected and not facts.platform.violations


EXPECTATIONS = (
    Expectation(
        f"36 RPS: {BUSY} goes up at once to what it needs; when the load ends, down to 1 without a stairway",
        # The last tick of a second may show a little more than 36, and a step is seen while the windows still empty.
        lambda facts: facts.commands(BUSY) in ([4, 1], [5, 1], [4, 3, 1], [4, 2, 1], [5, 4, 1], [5, 3, 1], [5, 2, 1]),
        lambda facts: "commands " + ", ".join(str(replicas) for replicas in facts.commands(BUSY)),
    ),
    Expectation(
        f"steady use: {STEADY} is left alone",
        lambda facts: not facts.commands(STEADY) and not facts.stages(EVE),
        lambda facts: f"{counted(len(facts.commands(STEADY)), 'command')}, {counted(len(facts.stages(EVE)), 'event')}",
    ),
    Expectation(
        "ann is warned, comes back in time, and is told that the warning is withdrawn (used)",
        lambda facts: facts.stages(ANN) == CLOSED[0] and facts.event(ANN, "withdrawn")["closing_reason"] == "used",
        lambda facts: f"{', '.join(facts.stages(ANN))} {facts.event(ANN, 'withdrawn').get('closing_reason', '')}",
    ),
    Expectation(
        "ben's warning names the unbroken row of his following slots (IN_ROW), and he loses exactly these",
        _loses_what_was_named,
        lambda facts: f"{counted(len(facts.named(BEN)), 'slot')} at risk, "
        f"{counted(len(facts.cancelled(BEN)), 'slot')} cancelled",
    ),
    Expectation(
        "what no warning named stays booked: the slot ben books after his warning, his later slot, cleo's slot",
        lambda facts: len(facts.expected_kept) == 4 and set(facts.expected_kept.values()) <= facts.booked(),
        lambda facts: "booked: "
        + ", ".join(name for name, slot in facts.expected_kept.items() if slot in facts.booked()),
    ),
    Expectation(
        f"{SHARED} stays installed, because cleo's slot starts soon (booked_soon)",
        lambda facts: facts.event(BEN, "cancelled").get("uninstalled") is False
        and facts.runs(SHARED)
        and "booked_soon" in facts.held_back,
        lambda facts: f"{'running' if facts.runs(SHARED) else 'gone'}; {', '.join(sorted(facts.held_back))}",
    ),
    Expectation(
        f"dan's following slot is cancelled and {FORGOTTEN} uninstalled, and he is told so",
        lambda facts: facts.event(DAN, "cancelled").get("uninstalled") is True
        and facts.cancelled(DAN) == facts.expected_gone[DAN]
        and facts.commands(FORGOTTEN) == [None]
        and not facts.runs(FORGOTTEN),
        lambda facts: f"{', '.join(facts.stages(DAN))}; {'running' if facts.runs(FORGOTTEN) else 'uninstalled'}",
    ),
    Expectation(
        f"finn's unused {KEPT} is kept by a control message: his warning is withdrawn (kept), his slots stay",
        lambda facts: facts.stages(FINN) == CLOSED[0]
        and facts.event(FINN, "withdrawn")["closing_reason"] == "kept"
        and len(facts.named(FINN)) == 1
        and set(facts.named(FINN)) <= facts.booked(),
        lambda facts: f"{', '.join(facts.stages(FINN))} {facts.event(FINN, 'withdrawn').get('closing_reason', '')}",
    ),
    Expectation(
        "the replica that cancels gus's slots is killed in the middle; the other ends it: each slot once, told once",
        _is_taken_over,
        lambda facts: f"{facts.killed or 'nobody'} killed after {counted(facts.gone_when_killed, 'slot')}, "
        f"ended by {facts.ended_by.get(TAKEN_OVER, 'nobody')}: {counted(sum(facts.times_deleted(GUS)), 'slot')}, "
        f"{', '.join(facts.stages(GUS))}",
    ),
    Expectation(
        "every warning is followed by exactly one closing event",
        lambda facts: facts.stages(GUS) != [] and all(facts.stages(user) in ([], *CLOSED) for user in NAMES),
        lambda facts: "; ".join(
            f"{name}: {', '.join(told)}" for id, name in NAMES.items() if (told := facts.stages(id))
        ),
    ),
    Expectation(
        "nobody else lost a slot, and no model got a command while another was unfinished",
        _nobody_else,
        lambda facts: f"{counted(len(facts.deleted()), 'slot')} deleted, "
        f"{counted(len(facts.platform.violations), 'violation')}",
    ),
)
CLEAN_STOP = Expectation(
    "both replicas that run at the end stop cleanly on SIGTERM (exit code 0)",
    lambda facts: len(facts.exits) == 2 and set(facts.exits.values()) == {0},
    lambda facts: ", ".join(f"{name} {code}" for name, code in facts.exits.items()),
)
