"""The pictures in docs/ show what the code does, and the files they name are there."""

import re
from pathlib import Path

import pytest

from dev.studies.loads import shapes
from dev.studies.scaler_comparison import defaults, table
from limiter.domain.idle_spell import ARROWS
from limiter.runner.claim import RunState

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PLACES = (ROOT, ROOT / "project", ROOT / "project/src/limiter", ROOT / "project/tests")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FILE = re.compile(r"`([a-z_0-9]+(?:/[a-z_0-9]+)+\.py)`")
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
    page = (DOCS / "comparison.md").read_text()
    for load, calls in shapes().items():
        if load != "day":  # of which one takes as long as all the others
            assert table(defaults(load, calls)) in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = set(FILE.findall(page.read_text()))
    assert [file for file in sorted(named) if not any((place / file).is_file() for place in PLACES)] == []


def test_files_are_named_in_the_pages() -> None:
    assert len({file for page in PAGES for file in FILE.findall(page.read_text())}) > 20
