"""Lines of the log as a person at a terminal gets them, and the thread that writes them."""

import json
import logging
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from loguru import logger

from limiter.domain.job import Job
from limiter.logs import MOST, Intercept
from limiter.logs.lines import json_line, text_line
from limiter.logs.writer import Writer


def said(text: str, **extra: object) -> str:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(text_line(message)), level="INFO")
    try:
        logger.bind(**extra).info("{}", text)
    finally:
        logger.remove(sink)
    (line,) = lines
    return line


def test_a_line_has_its_time_level_text_and_ids() -> None:
    assert said("done", model="a").endswith(" INFO    done {'model': 'a'}\n")
    assert said("done").endswith(" INFO    done\n")
    assert said("done", job=Job.RPS_CHECK, missed=1).endswith(" done {'job': 'rps_check', 'missed': 1}\n")


def test_what_is_bound_never_takes_the_place_of_the_text() -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(json_line(message)), level="INFO")
    logger.bind(message="an id", model="a").info("done")
    logger.remove(sink)
    line = json.loads(lines[0])
    assert (line["message"], line["model"]) == ("done", "a")


def test_what_a_name_brings_along_neither_moves_the_cursor_nor_forges_a_line() -> None:
    line = said("m\x1b[2J\r\n12:00:00.000 ERROR  forged\u2028", model="x\x1b[2J\n")
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "m\\x1b[2J\\r\\n12:00:00.000 ERROR  forged\\u2028" in line


def test_words_of_every_language_stay_as_they_are() -> None:
    assert "модель 模型 → 2" in said("модель 模型 → 2")


def test_half_of_a_surrogate_pair_is_written_escaped_and_later_lines_are_written(
    capfd: pytest.CaptureFixture[str],
) -> None:
    writer = Writer()
    writer.put('{"model": "a\ud800b"}\n')
    writer.put("later\n")
    writer.close()
    first, later = capfd.readouterr().err.splitlines()
    assert first == '{"model": "a\\ud800b"}'
    assert json.loads(first) == {"model": "a\ud800b"}
    assert later == "later"
    assert writer.dropped == 0


@pytest.mark.parametrize("error", [OSError("no"), ValueError("no"), MemoryError()])
def test_a_line_that_cannot_be_written_is_counted_and_later_lines_are_written(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    errors, write = [error], os.write

    def fail_once(descriptor: int, data: bytes) -> int:
        if errors:
            raise errors.pop()
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fail_once)
    writer = Writer()
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    try:
        writer.put("lost\n")
        writer.put("later\n")
        writer.close()
    finally:
        logger.remove(sink)
    assert capfd.readouterr().err.endswith("later\n")
    assert lines == ["1 lines of the log were dropped\n"]


def test_an_error_while_waiting_for_a_reader_is_one_of_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise BlockingIOError

    def closed(*_: object) -> None:
        raise OSError("bad file descriptor")

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr("select.select", closed)
    writer = Writer()
    writer.put("lost\n")
    writer.put("lost\n")
    writer.close()
    assert writer.dropped == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_whose_thread_has_ended_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, data: bytes) -> int:
        raise RuntimeError

    monkeypatch.setattr(os, "write", broken)
    writer = Writer()
    assert writer.problem() is None
    writer.put("lost\n")
    deadline = time.monotonic() + 5
    while writer.problem() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "not written any more" in str(writer.problem())


class Library(NamedTuple):
    logger: logging.Logger
    handler: Intercept
    lines: list[str]


@pytest.fixture
def library() -> Iterator[Library]:
    """A library that logs by the standard library, and the lines that are made of what it says."""
    found = Library(logging.getLogger("a library"), Intercept(), [])
    found.logger.propagate = False
    found.logger.addHandler(found.handler)
    sink = logger.add(found.lines.append, format="{message}")
    yield found
    logger.remove(sink)
    found.logger.removeHandler(found.handler)


def test_an_error_of_a_library_that_repeats_is_said_once_a_minute(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio alone says two thousand times a second that no file can be opened any more."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(3):
        for text in ("no file left", "no memory left"):
            library.logger.error(text)
        library.logger.warning("as often as it says so")
    assert sorted(library.lines) == sorted(["as often as it says so\n"] * 3 + ["no file left\n", "no memory left\n"])
    now += 60
    library.logger.error("no file left")
    assert library.lines.count("no file left\n") == 2


def test_errors_of_a_library_that_are_never_the_same_are_all_said_and_not_all_remembered(library: Library) -> None:
    """Of a number or an address in each of them the memory would grow, and so would the time that each takes."""
    for number in range(MOST + 100):
        library.logger.error("Task-%s", number)
    assert len(set(library.lines)) == MOST + 100
    assert len(library.handler._said) == MOST
