"""`example.env` is the documentation of the settings: complete, true, and readable for both of its readers."""

import re
import subprocess
from collections.abc import Iterator
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
from dotenv import dotenv_values

from limiter.config.loading import WrongSettings, load
from limiter.config.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "example.env").read_text()
RULES: dict[str, dict[str, Any]] = Settings.model_json_schema()["properties"]
REQUIRED = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}


class Variable(NamedTuple):
    comment: str
    name: str
    value: str


def variables() -> Iterator[Variable]:
    for comment, name, value in re.findall(r"((?:^#.*\n)+)^([A-Z_]+)=(.*)$", TEXT, re.MULTILINE):
        yield Variable(comment, name, value.removeprefix("'").removesuffix("'"))


VARIABLES = list(variables())
each_variable = pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)


def environment(text: str) -> dict[str, str]:
    """The file as docker compose reads it: its reader and this one descend from the same dotenv."""
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text), interpolate=True).items()}


# What docker-compose.yaml gives besides, from files of secrets.
ADDRESSES = {
    "DATABASE_URL": "postgresql+asyncpg://u:p@pgbouncer:6432/d",
    "RABBITMQ_URL": "amqp://u:p@rabbitmq:5672/",
}
PLATFORM = {name: f"http://{name.lower()}.example" for name in REQUIRED - ADDRESSES.keys()}


@pytest.fixture
def only_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment(TEXT).items():
        monkeypatch.setenv(name, value)


def test_names_exactly_the_settings_each_once() -> None:
    names = re.findall(r"^([^#\s=]+)=", TEXT, re.MULTILINE)
    assert sorted(names) == sorted(name.upper() for name in Settings.model_fields)
    assert names == [variable.name for variable in VARIABLES], "a variable without a comment above it"


@pytest.mark.usefixtures("only_the_example")
def test_alone_it_is_refused_and_each_address_that_is_missing_is_named() -> None:
    with pytest.raises(WrongSettings) as refused:
        load()
    assert sorted(str(refused.value).splitlines()) == [
        f"{name} is not set: it is required" for name in sorted(REQUIRED)
    ]


@pytest.mark.usefixtures("only_the_example")
def test_with_addresses_it_loads_and_every_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (ADDRESSES | PLATFORM).items():
        monkeypatch.setenv(name, value)
    example = load()
    for name in environment(TEXT).keys() - REQUIRED:
        monkeypatch.delenv(name)
    assert example.model_dump() == load().model_dump()


def test_bash_and_compose_read_the_same() -> None:
    bash = subprocess.run(
        ["/bin/bash", "-c", "set -eua; . ./example.env; env -0"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert not bash.stderr
    read = dict(entry.split("=", 1) for entry in bash.stdout.split("\0") if entry)
    assert {name: read[name] for name in environment(TEXT)} == environment(TEXT)


@each_variable
def test_a_comment_names_the_default(variable: Variable) -> None:
    last = variable.comment.splitlines()[-1]
    if variable.name in REQUIRED:
        assert last.endswith("REQUIRED.")
    else:
        assert last.endswith(f"Default: {variable.value or 'empty'}")


@each_variable
def test_a_comment_names_meaning_unit_and_range(variable: Variable) -> None:
    *meaning, last = (line.removeprefix("# ") for line in variable.comment.splitlines())
    assert meaning
    for text in expected(variable.name.lower()):
        assert text in last, f"{variable.name}: {text!r} is not in {last!r}"


def expected(name: str) -> Iterator[str]:
    """What the last line of a variable's comment must say of its unit and range."""
    rule, kind = RULES[name], Settings.model_fields[name].annotation
    bounds = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "up to"}
    yield from (f"{word} {rule[key]:.10g}" for key, word in bounds.items() if key in rule)
    if name.endswith("_seconds"):
        yield "Seconds,"
    elif rule.get("type") in ("integer", "number"):
        yield ", "  # a unit before the range
    elif kind is bool:
        yield "true or false."
    elif get_origin(kind) is Literal:
        yield from get_args(kind)
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        yield from kind
    elif name.endswith(("_url", "_urls")):
        yield "URL"
    else:
        yield from ("JSON object",) if rule.get("type") == "object" else ("Text",)


@pytest.mark.usefixtures("only_the_example")
def test_the_demo_only_changes_values_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = environment((ROOT / "deploy/demo.env").read_text())
    assert demo.keys() <= environment(TEXT).keys()
    for name, value in (ADDRESSES | demo).items():
        monkeypatch.setenv(name, value)
    loaded = load()
    assert loaded.idle_warning_lead_seconds < loaded.idle_limit_seconds < 600
    assert loaded.user_email_template.format(user_name="anna") == "anna@example.org"
