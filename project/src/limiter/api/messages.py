"""Control messages, and the one reply to each."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from limiter.clients.http import Storable
from limiter.domain.job import Job

Outcome = Literal["completed", "failed", "busy", "rejected", "paused", "resumed"]


class ControlMessage(BaseModel):
    """A command by hand."""

    model_config = ConfigDict(extra="forbid")

    command: Literal["run_job", "pause_job", "resume_job", "explain"]
    job: Job | None = None
    model: Storable | None = None
    request_id: str | None = None

    @model_validator(mode="after")
    def _what_it_is_about(self) -> Self:
        wanted, unwanted = ("model", "job") if self.command == "explain" else ("job", "model")
        if getattr(self, wanted) is None:
            raise ValueError(f"{self.command} needs a {wanted}")
        if getattr(self, unwanted) is not None:
            raise ValueError(f"{self.command} takes no {unwanted}")
        return self


class Reply(BaseModel):
    """The one answer to a control message that names a `reply_to`."""

    request_id: str | None
    command: str | None
    job: str | None
    outcome: Outcome
    run_id: str | None = None
    detail: str | None = None
