"""Control messages, one class a command, and the one reply to each."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from limiter.clients.decoding import Storable
from limiter.domain.job import Job

Outcome = Literal["completed", "failed", "busy", "rejected", "paused", "resumed"]

MAX_TEXT = 500  # characters of a name or a reason: they are stored, and shown in one line


def _moment(value: Any) -> Any:
    """A moment from ISO text or Unix seconds; pydantic alone would also guess milliseconds, dates and plain numbers."""
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass  # refused below, in our own words
    raise ValueError(f"{str(value)[:MAX_TEXT]!r} is neither an ISO date and time nor Unix seconds")


def _with_zone(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise ValueError(f"'{value.isoformat()}' must tell its zone, such as Z or +03:00")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"'{value.isoformat()}' is outside the calendar") from None


Text = Annotated[Storable, Field(min_length=1, max_length=MAX_TEXT)]
Moment = Annotated[
    datetime, BeforeValidator(_moment, json_schema_input_type=datetime | int | float), AfterValidator(_with_zone)
]


class Request(BaseModel):
    """What every command carries; it takes exactly the fields of its class."""

    model_config = ConfigDict(extra="forbid")

    request_id: str | None = None


class SignedRequest(Request):
    """A command that changes something, with who sends it and why."""

    by: Text | None = None
    reason: Text | None = None

    @property
    def signature(self) -> str:
        """Who and why, in words."""
        return f"{self.reason or 'no reason given'} (by {self.by or 'somebody unnamed'})"


class JobRequest(SignedRequest):
    """Run a job now, or pause or resume it."""

    command: Literal["run_job", "pause_job", "resume_job"]
    job: Job


class ExplainRequest(Request):
    """Tell what stands for a model."""

    command: Literal["explain"]
    model: Text


class StatusRequest(Request):
    """Tell what stands now: who is next, jobs, commands, readings."""

    command: Literal["status"]


class KeepRequest(SignedRequest):
    """Leave the bookings of a model alone until then: one user's, or everybody's."""

    command: Literal["keep"]
    model: Text
    user_id: UUID | None = None
    until: Moment


class UnkeepRequest(SignedRequest):
    """End the keeps of exactly this model and user; without a user, those for everybody."""

    command: Literal["unkeep"]
    model: Text
    user_id: UUID | None = None


class AllowSurgeRequest(SignedRequest):
    """Say that the surge is no wrong reading, so that its users may be warned or cancelled."""

    command: Literal["allow_surge"]


class SettleRequest(SignedRequest):
    """End a model's unfinished command to the dispatcher by hand."""

    command: Literal["settle"]
    model: Text
    outcome: Literal["completed", "failed"]


class WithdrawRequest(SignedRequest):
    """Close a user's open idle spell of a model."""

    command: Literal["withdraw"]
    model: Text
    user_id: UUID


ControlRequest = (
    JobRequest
    | StatusRequest
    | ExplainRequest
    | KeepRequest
    | UnkeepRequest
    | AllowSurgeRequest
    | SettleRequest
    | WithdrawRequest
)
CONTROL_MESSAGE: TypeAdapter[ControlRequest] = TypeAdapter(Annotated[ControlRequest, Field(discriminator="command")])


class Reply(BaseModel):
    """The one answer to a control message that names a `reply_to`."""

    request_id: str | None
    command: str | None
    job: str | None
    outcome: Outcome
    run_id: str | None = None
    detail: str | None = None
