"""The set-up of the logs: ours and those of the libraries, one line each on standard error.

A thread of its own writes them: where nobody reads the other end of a pipe, only that thread waits.
"""

import atexit
import inspect
import logging
import time

from loguru import logger

from limiter.logs.lines import json_line, text_line
from limiter.logs.writer import Writer


class Intercept(logging.Handler):
    """Hands records of the standard library's logging on to loguru, an error that repeats once a minute.

    Of a process without a file descriptor left asyncio logs, each second, as many errors as connections may wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str, str], float] = {}

    def _repeats(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return False
        now, error = time.monotonic(), record.exc_info and record.exc_info[1]
        key = record.name, record.getMessage(), repr(error)
        self._forget(now)
        if key in self._said:
            return True
        self._said[key] = now
        return False

    def _forget(self, now: float) -> None:
        while self._said:
            first, at = next(iter(self._said.items()))
            if now - at < SAID_AGAIN and len(self._said) < MOST:
                break
            del self._said[first]

    def emit(self, record: logging.LogRecord) -> None:
        if self._repeats(record):
            return
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        bound = logger.opt(depth=depth, exception=record.exc_info).bind(logger=record.name)
        bound.log(record.levelno if record.levelno not in _LEVELS else record.levelname, "{}", record.getMessage())


SAID_AGAIN = 60.0  # seconds
MOST = 1000  # errors that are known; some have an address or a number in them, and are never the same
_LEVELS = (10, 20, 30, 40, 50)
# These repeat every failed attempt; our own lines say the same once, with what follows from it.
_QUIET = {
    "aiormq": "CRITICAL",
    "aio_pika": "CRITICAL",
    "httpx": "WARNING",
    "httpcore": "WARNING",
    "apscheduler": "ERROR",
}
_writers: list[Writer] = []


def log_problem() -> str | None:
    """What is wrong with the log, in words; None if somebody reads it."""
    return next(filter(None, (writer.problem() for writer in _writers)), None)


def setup_logging(level: str, style: str) -> None:
    """Send all logs, the libraries' too, to standard error: one JSON object or one line of text each."""
    logger.remove()
    writer = Writer()
    _writers.append(writer)
    atexit.register(writer.close)
    if style == "json":
        # Without diagnose=False a traceback would show the values of variables, secrets among them.
        logger.add(lambda message: writer.put(json_line(message)), level=level, backtrace=False, diagnose=False)
    else:
        logger.add(lambda message: writer.put(text_line(message)), level=level, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[Intercept()], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True  # FastStream turns it off, and its errors would go past our sink
    for name, at_least in _QUIET.items():
        logging.getLogger(name).setLevel(at_least)
