"""How a record of the log is written in a line."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loguru import Message, Record


def json_line(message: "Message") -> str:
    """For what collects logs: a JSON object."""
    record: Record = message.record
    line = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
        **record["extra"],
    }
    line["message"] = record["message"]  # what is bound by that name must not take the place of the text
    if record["exception"] is not None:
        line["exception"] = "".join(str(message).splitlines(keepends=True)[1:])
    return json.dumps(line, default=str, ensure_ascii=False) + "\n"


def text_line(message: "Message") -> str:
    """For a terminal, and for people."""
    record: Record = message.record
    said = printable(record["message"])
    extra = {name: str(value) if isinstance(value, str) else value for name, value in record["extra"].items()}
    more = f" {extra}" if extra else ""
    trace = "".join(str(message).splitlines(keepends=True)[1:]) if record["exception"] is not None else ""
    return f"{record['time']:HH:mm:ss.SSS} {record['level'].name:<7} {said}{more}\n{trace}"


def printable(text: str) -> str:
    """For a terminal: what a name or an answer brings along must neither move the cursor nor forge a line."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
