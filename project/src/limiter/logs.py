"""The set-up of the logs: ours and those of the libraries, one line each on standard error.

A thread of its own writes them: where nobody reads the other end of a pipe, only that thread waits.
"""

import atexit
import inspect
import json
import logging
import os
import queue
import select
import threading
import time
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record


class _Intercept(logging.Handler):
    """Hands records of the standard library's logging on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        bound = logger.opt(depth=depth, exception=record.exc_info).bind(logger=record.name)
        bound.log(record.levelno if record.levelno not in _LEVELS else record.levelname, "{}", record.getMessage())


_LEVELS = (10, 20, 30, 40, 50)
# These repeat every failed attempt; our own lines say the same once, with what follows from it.
_QUIET = {
    "aiormq": "CRITICAL",
    "aio_pika": "CRITICAL",
    "httpx": "WARNING",
    "httpcore": "WARNING",
    "apscheduler": "ERROR",
}


WAITING_LINES = 10_000  # that are kept while nobody reads; later ones are dropped, and counted
UNREAD_SECONDS = 5.0  # to write one line, after which it is said that nobody reads
LAST_LINES_SECONDS = 2.0  # to wait at the end for somebody to read


class _Writer:
    """Writes lines to standard error, as fast as somebody reads them."""

    def __init__(self) -> None:
        self.dropped = 0
        self._since: float | None = None  # when the line began that is being written
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_LINES)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            self._since = time.monotonic()
            written = _written(line.encode())
            self._since = None
            if not written:
                self.dropped += 1
            elif self.dropped and self._lines.qsize() < WAITING_LINES / 2:
                dropped, self.dropped = self.dropped, 0
                logger.bind(event="log_dropped", lines=dropped).warning("{} lines of the log were dropped", dropped)

    def problem(self) -> str | None:
        """What is wrong, in words; None if somebody reads."""
        since = self._since
        if self.dropped or (since is not None and time.monotonic() - since > UNREAD_SECONDS):
            return f"nobody reads the log of this replica: {self._lines.qsize()} lines wait, {self.dropped} are dropped"
        return None

    def close(self) -> None:
        """Let what waits be written, but wait for no reader."""
        try:
            self._lines.put(None, timeout=LAST_LINES_SECONDS)
        except queue.Full:
            return
        self._thread.join(LAST_LINES_SECONDS)


def _written(line: bytes) -> bool:
    """Write it all; false if nobody can read it any more."""
    # Not through sys.stderr: its lock, kept by a thread that waits, would break the end of the process.
    while line:
        try:
            line = line[os.write(2, line) :]
        except BlockingIOError:
            select.select([], [2], [])
        except OSError:
            return False
    return True


_writers: list[_Writer] = []


def log_problem() -> str | None:
    """What is wrong with the log, in words; None if somebody reads it."""
    return next(filter(None, (writer.problem() for writer in _writers)), None)


def _json_line(message: "Message") -> str:
    record: Record = message.record
    line = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
        **record["extra"],
    }
    if record["exception"] is not None:
        line["exception"] = "".join(str(message).splitlines(keepends=True)[1:])
    return json.dumps(line, default=str, ensure_ascii=False) + "\n"


def _text_line(message: "Message") -> str:
    """For a terminal: what a name or an answer brings along must neither move the cursor nor forge a line."""
    record: Record = message.record
    said = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in record["message"])
    more = f" {record['extra']}" if record["extra"] else ""
    trace = "".join(str(message).splitlines(keepends=True)[1:]) if record["exception"] is not None else ""
    return f"{record['time']:HH:mm:ss.SSS} {record['level'].name:<7} {said}{more}\n{trace}"


def setup_logging(level: str, style: str) -> None:
    """Send all logs, the libraries' too, to standard error: one JSON object or one line of text each."""
    logger.remove()
    writer = _Writer()
    _writers.append(writer)
    atexit.register(writer.close)
    if style == "json":
        # Without diagnose=False a traceback would show the values of variables, secrets among them.
        logger.add(lambda message: writer.put(_json_line(message)), level=level, backtrace=False, diagnose=False)
    else:
        logger.add(lambda message: writer.put(_text_line(message)), level=level, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Intercept()], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True  # FastStream turns it off, and its errors would go past our sink
    for name, at_least in _QUIET.items():
        logging.getLogger(name).setLevel(at_least)
