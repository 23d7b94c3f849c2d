"""How a command by hand ended, and the reply that says so."""

import json
from dataclasses import dataclass
from typing import Any

from limiter.api.messages import ControlRequest, Outcome, Reply

MAX_REPLY_ECHO = 200  # characters of a refused message's request_id that are sent back


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended."""

    outcome: Outcome
    detail: str | None = None
    run_id: str | None = None


class Refused(Exception):
    """A command breaks a rule; the text tells field, value and rule."""


def reply_to(request: ControlRequest, answer: Answer) -> Reply:
    """The reply that tells the answer."""
    return Reply(
        request_id=request.request_id,
        command=request.command,
        job=getattr(request, "job", None),
        outcome=answer.outcome,
        run_id=answer.run_id,
        detail=answer.detail,
    )


def rejected(body: bytes, why: str) -> Reply:
    """The refusal, with as much of the request as could be read."""
    try:
        sent: Any = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    echo = {
        name: sent[name][:MAX_REPLY_ECHO].encode(errors="replace").decode()  # a lone surrogate cannot be sent
        for name in ("request_id", "command", "job")
        if isinstance(sent, dict) and isinstance(sent.get(name), str)
    }
    nothing: dict[str, Any] = {"request_id": None, "command": None, "job": None}
    return Reply.model_validate(nothing | echo | {"outcome": "rejected", "detail": why})
