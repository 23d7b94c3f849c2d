"""What the command says about a file that is no whole recording: one line, and no traceback."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limiter.replay.__main__ import main
from tests.unit.replay.test_recording import FLEET, recorder, tick


@pytest.fixture
def recorded(tmp_path: Path) -> bytes:
    """The lines of a recording, hard to compress, so that a cut file still has some of them."""
    path = tmp_path / "whole.jsonl"
    to = recorder(path)
    for now in range(0, 3000, 15):
        tick(to, now, FLEET, **{f"model {now * 7919 % 1013}": now * 0.123})
    return path.read_bytes()


def said(path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command says about such a file."""
    path.write_bytes(content)
    assert main([str(path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


def cut(whole: bytes) -> bytes:
    return gzip.compress(whole)[:-2000]


def overwritten(whole: bytes) -> bytes:
    packed = bytearray(gzip.compress(whole))
    packed[10:20] = b"\xff" * 10  # right behind the header
    return bytes(packed)


def with_a_wrong_sum(whole: bytes) -> bytes:
    packed = bytearray(gzip.compress(whole))
    packed[-8:-4] = b"none"
    return bytes(packed)


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        (cut, "EOFError: Compressed file ended before"),
        (overwritten, "error: Error -3 while decompressing data"),
        (with_a_wrong_sum, "BadGzipFile: CRC check failed"),
        (bytes, "BadGzipFile: Not a gzipped file"),
    ],
)
def test_a_packed_file_that_is_damaged_is_named_with_its_line(
    tmp_path: Path, recorded: bytes, capsys: pytest.CaptureFixture[str], pack: Callable[[bytes], bytes], why: str
) -> None:
    path = tmp_path / "r.jsonl.gz"
    line = said(path, pack(recorded), capsys)
    place, number, rule = line.removeprefix(str(path)).split(":", 2)
    assert (place, rule.strip()[: len(why)]) == ("", why)
    assert 1 <= int(number) <= 202


def test_a_cut_last_line_is_named_and_what_to_do(
    tmp_path: Path, recorded: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path, lines = tmp_path / "r.jsonl", recorded.splitlines(keepends=True)
    line = said(path, recorded[:-20], capsys)
    assert line.startswith(f"{path}:{len(lines)}: JSONDecodeError: ")
    assert line.endswith("; the last line is cut: without it, the recording can be replayed (head --lines=-1)")
    assert "head" not in said(path, b"".join([*lines[:-2], lines[-2][:-20] + b"\n", lines[-1]]), capsys)
    path.write_bytes(b"".join(lines[:-1]))
    assert main([str(path)]) == 0


def test_a_file_that_is_not_utf_8_is_named_with_its_line(
    tmp_path: Path, recorded: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = recorded.splitlines()
    lines[90] = lines[90].replace(b"model", b"mod\xffl")
    path = tmp_path / "r.jsonl"
    line = said(path, b"\n".join(lines), capsys)
    assert line.startswith(f"{path}:91: UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff")


def test_without_a_run_there_is_nothing_to_replay(
    tmp_path: Path, recorded: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    line = said(path, recorded.splitlines()[0] + b"\n", capsys)
    assert line == f"{path}: has no run behind its start line: there is nothing to replay"


@pytest.mark.parametrize(
    ("number", "fields"),
    [
        (1, {"settings": ["nothing"]}),
        (2, {"at": 1e300}),
        (2, {"commands": 7}),
        (2, {"commands": {"set": [1]}}),
        (2, {"found": [{"at": 1}]}),
    ],
)
def test_a_line_with_other_values_is_named(
    tmp_path: Path, recorded: bytes, capsys: pytest.CaptureFixture[str], number: int, fields: dict[str, Any]
) -> None:
    lines = recorded.splitlines()
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | fields).encode()
    path = tmp_path / "r.jsonl"
    assert said(path, b"\n".join(lines), capsys).startswith(f"{path}:{number}: ")


def test_a_line_too_deep_for_json_is_named(tmp_path: Path, recorded: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.jsonl"
    line = said(path, recorded.splitlines()[0] + b"\n" + b"[" * 200_000, capsys)
    assert line.startswith(f"{path}:2: RecursionError: ")


def test_other_settings_that_are_not_utf_8_are_named(
    tmp_path: Path, recorded: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.env"
    other.write_bytes(b"DRY_RUN=\xff\n")
    assert main([str(tmp_path / "whole.jsonl"), str(other)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"AGAINST={str(other)!r}: must be UTF-8 text"
