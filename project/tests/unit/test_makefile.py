"""What the Makefile's targets hand to what they start."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

PRINTED = '#!/bin/sh\nprintf "%s|" "$MODE" "$ROW" "$LAST" "$*"\n'
NEEDED = ("requirements.txt", "requirements-dev.txt", "project/dev/install.sh")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a checkout as `make` needs, with an installed .venv whose Python prints what it gets."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*NEEDED, ".venv/installed", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".venv/bin/python").write_text(PRINTED)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    return tmp_path


def made(checkout: Path, *arguments: str) -> tuple[str, str]:
    """The output and the errors of make with these arguments."""
    run = ["make", "--silent", *arguments]
    done = subprocess.run(run, cwd=checkout, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_dot_env_is_read_whatever_its_line_ends(checkout: Path, end: str) -> None:
    lines = ["# a comment", "", "MODE=ALL", """ROW='{"a b": 1}'""", "LAST=one"]
    (checkout / ".env").write_bytes(end.join(lines).encode() + end.encode())
    assert made(checkout, "run") == ('ALL|{"a b": 1}|one|project/src/main.py|', "")
    assert made(checkout, "status") == ('ALL|{"a b": 1}|one|-m limiter.ctl status|', "")


def test_without_a_dot_env_the_environment_is_as_it_was(checkout: Path) -> None:
    assert made(checkout, "run") == ("|||project/src/main.py|", "")
