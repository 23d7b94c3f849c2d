"""The pictures in docs/ show what the code does, the files they name are there, and both READMEs say the same."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.studies.loads import shapes
from dev.studies.scaler_comparison import defaults, table
from limiter.db.tables import REVISION
from limiter.domain.idle_spell import ARROWS
from limiter.runner.claim import RunState

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PLACES = (ROOT, ROOT / "project", ROOT / "project/src/limiter", ROOT / "project/tests")
ENGLISH, RUSSIAN = ROOT / "README.md", ROOT / "README.ru.md"
PAGES = [ENGLISH, RUSSIAN, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FILE = re.compile(r"`([a-z_0-9]+(?:/[a-z_0-9]+)+\.py)`")
ARROW = re.compile(r"^ +(\w+) --> (\w+): (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ .*$", re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"(!?)\[[^]]*\]\(([^)]+)\)")
DRAWN = re.compile(r"[|^+]|/[a-z]+|[a-z]+_[a-z]+|[A-Z]\w+|\d+", re.ASCII)  # frames, arrows, names and numbers


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


def test_the_migration_to_add_is_the_one_after_the_last() -> None:
    (number,) = re.findall(r"--rev-id (\d+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert int(number) == int(REVISION) + 1


def test_files_are_named_in_the_pages() -> None:
    assert len({file for page in PAGES for file in FILE.findall(page.read_text())}) > 20


def test_each_readme_begins_with_a_link_to_the_other() -> None:
    assert "](README.ru.md)" in ENGLISH.read_text().splitlines()[2]
    assert "](README.md)" in RUSSIAN.read_text().splitlines()[2]


def _sections(page: str) -> list[str]:
    """The prose and tables under each heading, in order; the link to the other language counts as the same in both."""
    prose = BLOCK.sub("", page).replace("](README.ru.md)", "](README.md)")
    return HEADING.split(prose)


def heading_levels(page: str) -> list[str]:
    return [heading.split()[0] for heading in HEADING.findall(BLOCK.sub("", page))]


def commands(page: str) -> list[list[str]]:
    """The lines of each block of commands, without the comments."""
    return [[re.sub(r"\s*#.*", "", line) for line in block.splitlines()] for kind, block in BLOCK.findall(page) if kind]


def drawings(page: str) -> list[list[list[str]]]:
    """What no translation changes in each line of the pictures made of characters."""
    return [[DRAWN.findall(line) for line in block.splitlines()] for kind, block in BLOCK.findall(page) if not kind]


def code_in_prose(page: str) -> list[list[str]]:
    """The code of each section, sorted: sentences of two languages name it in different orders."""
    return [sorted(" ".join(code.split()) for code in CODE.findall(section)) for section in _sections(page)]


def links_and_pictures(page: str) -> list[list[tuple[str, str]]]:
    return [sorted(LINK.findall(section)) for section in _sections(page)]


def table_rows(page: str) -> list[list[tuple[int, list[str]]]]:
    """The number of columns and the code of each row of each table."""
    tables = TABLE.findall(BLOCK.sub("", page))
    return [[(row.count("|"), CODE.findall(row)) for row in table.splitlines()] for table in tables]


def numbers(page: str) -> list[list[str]]:
    """The digits of each section: 1,000 and 1 000 are the same."""
    return [sorted(re.findall(r"\d+", section)) for section in _sections(page)]


@pytest.mark.parametrize(
    "part",
    [heading_levels, commands, drawings, code_in_prose, links_and_pictures, table_rows, numbers],
    ids=lambda part: part.__name__,
)
def test_both_readmes_have_the_same(part: Callable[[str], list[object]]) -> None:
    english = part(ENGLISH.read_text())
    assert any(english)
    assert part(RUSSIAN.read_text()) == english
