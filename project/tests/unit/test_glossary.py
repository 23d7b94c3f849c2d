"""One word for one thing: docs/glossary.md explains the domain's classes, and no retired word is left as a name."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import limiter.domain

PROJECT = Path(__file__).parents[2]
GLOSSARY = PROJECT.parent / "docs/glossary.md"

# Classes of the domain whose names are plain English.
PLAIN = {
    "Command", "CommandKind", "CommandState", "Decision", "Fleet", "IdleRule", "Job", "Policy", "Reason", "Reservation",
    "Sample", "ScalingRule", "Slot", "Usage", "User",
}  # fmt: skip

WORDS = """
    Sighting sighting sightings Survey survey Surveyor surveyor look_again Holding holding holdings Holder holder
    holders Finding finding findings Past Notes Spell World Tally tally tallies NeighbourError neighbour neighbours
    Peer peer peers Timetable timetable by_hand Round Scaled Pauses intend Unread Unknown Page stick broke admits
    end_bar of_spell Link seen told hold holds explain explained look looks _look _wishes up_since down_since
    otherwise invented_fleet invented_day fault_world fault_stage
"""
RETIRED = set(WORDS.split())
# The control command is called `explain`.
ALLOWED = {
    "explain": ("src/limiter/ctl/", "src/limiter/api/", "tests/service/test_ctl.py", "tests/service/test_control.py"),
    "told": ("dev/demo/", "tests/unit/demo/"),  # what a user is told
}
# These name the tables of version 1.0.0, as the migrations do.
OF_OLD_TABLES = (
    "migrations/versions/",
    "tests/old_database.py",
    "tests/integration/db/test_migrations.py",
    "tests/service/test_upgraded_database.py",
)
LABELS = {"peer"}  # a metric label and log field, always given as a keyword


def domain_classes() -> set[str]:
    """The public classes that the modules of limiter.domain define."""
    names = [module.name for module in pkgutil.iter_modules(limiter.domain.__path__, "limiter.domain.")]
    found = {
        value.__name__
        for module in map(importlib.import_module, names)
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    return {name for name in found if not name.startswith("_")}


def names_in(source: str) -> Iterator[str]:
    """Every identifier of a module, whatever it names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) or (isinstance(node, ast.keyword) and node.arg in LABELS):
            continue
        for _, value in ast.iter_fields(node):
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    yield from text.split(".")  # `import a.b`


def test_the_glossary_explains_every_class_of_the_domain_that_is_not_plain_english() -> None:
    classes = domain_classes()
    assert classes >= PLAIN
    terms = set(re.findall(r"^\*\*(\w+)\*\* - \S", GLOSSARY.read_text(), re.MULTILINE))
    assert classes - PLAIN - terms == set()


def test_every_kind_of_name_is_found() -> None:
    source = (
        "import a.b as c\nasync def d(e, *f, **g): h.i = j(k='no', peer=l)\nclass m: n: o\nmatch p:\n case q(r=s): t"
    )
    assert sorted(set(names_in(source))) == list("abcdefghijklmnopqrst")


def test_no_retired_word_is_left_as_a_name() -> None:
    left = []
    for file in sorted(PROJECT.rglob("*.py")):
        place = file.relative_to(PROJECT)
        source, path = file.read_text(), place.with_suffix("").parts
        written = RETIRED & {*re.findall(r"\w+", source), *path}
        words = {
            word
            for word in written and written & {*names_in(source), *path}
            if not str(place).startswith(ALLOWED.get(word, ()))
        }
        if words and not str(place).startswith(OF_OLD_TABLES):
            left.append(f"{place}: {', '.join(sorted(words))}")
    assert not left, "\n".join(left)
