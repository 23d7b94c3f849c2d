"""The pictures in docs/ show what the code does."""

import re
from pathlib import Path

from dev.studies.scaler_comparison import table
from limiter.domain.idle_spell import ARROWS
from limiter.runner.claims import RunState

DOCS = Path(__file__).parents[3] / "docs"
ARROW = re.compile(r"^ +(\w+) --> (\w+): (.+)$", re.MULTILINE)


def arrows(page: str) -> dict[str, dict[str, str]]:
    """The arrows between named states, with their causes, of a page's only state picture."""
    text = (DOCS / page).read_text()
    picture = text.split("```mermaid\n")[1].split("```")[0]
    found: dict[str, dict[str, str]] = {}
    for source, to, cause in ARROW.findall(picture):
        found.setdefault(source, {})[to] = cause
    return found


def test_the_picture_of_an_idle_spell_has_the_arrows_of_the_code_and_no_other() -> None:
    assert arrows("flow.md") == {
        str(source): {str(to): why for to, why in causes.items()} for source, causes in ARROWS.items()
    }


def test_the_picture_of_a_run_has_every_way_in_which_a_run_can_end() -> None:
    assert set(arrows("locking.md")["running"]) == set(RunState) - {RunState.RUNNING}


def test_the_comparison_is_what_its_command_prints() -> None:
    assert table() in (DOCS / "comparison.md").read_text()
