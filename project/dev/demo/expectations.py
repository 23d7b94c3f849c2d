"""What must have happened by the end of the demo."""

from collections.abc import Callable
from dataclasses import dataclass

from dev.demo.story import ANN, BEN, BUSY, DAN, EVE, FORGOTTEN, SHARED, STEADY, Facts
from dev.wording import counted


@dataclass(frozen=True)
class Expectation:
    """One thing that must have happened, and what the summary shows of it."""

    title: str
    is_met: Callable[[Facts], bool]
    shown: Callable[[Facts], str]


EXPECTATIONS = (
    Expectation(
        f"36 RPS: {BUSY} goes up to 3, then 4; when the load ends, down to 1 one step at a time",
        lambda facts: facts.commands(BUSY) == [3, 4, 3, 2, 1],
        lambda facts: "commands " + ", ".join(str(replicas) for replicas in facts.commands(BUSY)),
    ),
    Expectation(
        f"steady use: {STEADY} is left alone",
        lambda facts: not facts.commands(STEADY) and not facts.stages(EVE),
        lambda facts: f"{counted(len(facts.commands(STEADY)), 'command')}, {counted(len(facts.stages(EVE)), 'event')}",
    ),
    Expectation(
        "ann is warned, comes back in time, and is told that the warning is withdrawn",
        lambda facts: facts.stages(ANN) == ["warning", "withdrawn"],
        lambda facts: ", ".join(facts.stages(ANN)),
    ),
    Expectation(
        "ben is warned, then loses exactly the unbroken row of his following slots (IN_ROW)",
        lambda facts: facts.stages(BEN) == ["warning", "cancelled"]
        and facts.cancelled(BEN) == facts.expected_gone[BEN]
        and set(facts.expected_gone[BEN]) <= facts.gone(),
        lambda facts: f"{', '.join(facts.stages(BEN))}; {counted(len(facts.cancelled(BEN)), 'slot')}",
    ),
    Expectation(
        "cleo's slot and ben's later slot stay booked",
        lambda facts: set(facts.expected_kept.values()) <= facts.booked(),
        lambda facts: ", ".join(name for name, slot in facts.expected_kept.items() if slot in facts.booked()),
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
        "nobody else lost a slot, and no model got a command while another was unfinished",
        lambda facts: facts.gone() <= {slot for slots in facts.expected_gone.values() for slot in slots}
        and not facts.platform.violations,
        lambda facts: f"{counted(len(facts.gone()), 'slot')} deleted, "
        f"{counted(len(facts.platform.violations), 'violation')}",
    ),
)
CLEAN_STOP = Expectation(
    "both replicas stop cleanly on SIGTERM (exit code 0)",
    lambda facts: len(facts.exits) == 2 and set(facts.exits.values()) == {0},
    lambda facts: ", ".join(f"{name} {code}" for name, code in facts.exits.items()),
)
