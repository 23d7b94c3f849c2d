"""What one model may have of its own."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from limiter.config import kinds as kind
from limiter.domain.reservations import UnbookingMode


class Override(BaseModel):
    """The rules of one model, in POLICY_OVERRIDES: named as the settings, in lower case and without `scale_`.

    What is not given is as for the whole fleet.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_rps_per_replica: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tolerance: Annotated[float, Field(ge=0, le=10)] | None = None
    down_headroom: Annotated[float, Field(gt=0, lt=1)] | None = None
    up_window_seconds: kind.Seconds | None = None
    down_window_seconds: kind.Seconds | None = None
    up_stabilization_seconds: kind.SecondsOrZero | None = None
    down_stabilization_seconds: kind.SecondsOrZero | None = None
    burst_factor: kind.Factor | None = None
    lead: bool | None = None
    lead_default_seconds: kind.SecondsOrZero | None = None
    lead_most: Annotated[float, Field(ge=1, le=10)] | None = None
    down_step: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    cooldown_seconds: kind.SecondsOrZero | None = None
    min_replicas: kind.Count | None = None
    max_replicas: kind.Count | None = None

    idle_limit_seconds: kind.Seconds | None = None
    idle_warning_lead_seconds: kind.Seconds | None = None
    unbooking_mode: UnbookingMode | None = None
    unbooking_row_gap_seconds: kind.SecondsOrZero | None = None
    unbook_current_slot: bool | None = None
    uninstall_on_idle: bool | None = None
    uninstall_guard_seconds: kind.SecondsOrZero | None = None
    uninstall_tell_seconds: kind.SecondsOrZero | None = None
    exempt: bool = False

    @model_validator(mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        """A setting's whole name is as good."""
        if not isinstance(given, dict):
            return given
        short = {str(name).removeprefix("scale_"): value for name, value in given.items()}
        if len(short) < len(given):
            raise ValueError("a rule is given twice, with and without scale_")
        return short
