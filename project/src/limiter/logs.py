"""The set-up of the logs: ours and those of the libraries, one line each on standard error."""

import inspect
import json
import logging
import sys
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


def _json_sink(message: "Message") -> None:
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
    print(json.dumps(line, default=str, ensure_ascii=False), file=sys.stderr, flush=True)


def setup_logging(level: str, style: str) -> None:
    """Send all logs, the libraries' too, to standard error: one JSON object or one line of text each."""
    logger.remove()
    if style == "json":
        # Without diagnose=False a traceback would show the values of variables, secrets among them.
        logger.add(_json_sink, level=level, backtrace=False, diagnose=False)
    else:
        text = "{time:HH:mm:ss.SSS} {level:<7} {message} {extra}"
        logger.add(sys.stderr, level=level, format=text, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Intercept()], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True  # FastStream turns it off, and its errors would go past our sink
    for name, at_least in _QUIET.items():
        logging.getLogger(name).setLevel(at_least)
