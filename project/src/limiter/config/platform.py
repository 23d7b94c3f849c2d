"""The settings of the platform's services: where they are, and how they are called."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from limiter.config import kinds as kind
from limiter.config.base import FromEnvironment
from limiter.config.json_objects import Json
from limiter.config.urls import Url, Urls


class PlatformSettings(FromEnvironment):
    """ModelRegistry, ModelDispatcher, BookingService and the Entrypoint's metrics pages."""

    model_registry_url: Url
    model_dispatcher_url: Url
    booking_service_url: Url
    booking_service_token: kind.Token = SecretStr("")
    entrypoint_metrics_urls: Urls
    entrypoint_calls_metric: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")] = "model_calls_total"
    entrypoint_model_label: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")] = "model_name"
    entrypoint_match_labels: Json[dict[str, str]] = Field(default_factory=dict)
    entrypoint_inflight_metric: Annotated[str, Field(pattern=r"^([a-zA-Z_:][a-zA-Z0-9_:]*)?$")] = ""
    registry_page_size: Annotated[int, Field(ge=1, le=100)] = 100
    booking_page_size: Annotated[int, Field(ge=1, le=1000)] = 1000
    booking_lookback_seconds: kind.SecondsOrZero = 604_800
    http_timeout_seconds: kind.Seconds = 5
    http_ca_file: kind.CaFile = ""
    http_certificate_file: kind.CertificateFile = ""
    http_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    http_retry_first_seconds: kind.Seconds = 0.2
    http_concurrency: kind.Count = 10
    http_circuit_failures: kind.Count = 20
    http_circuit_rest_seconds: kind.Seconds = 10

    @model_validator(mode="after")
    def _in_flight_rule(self) -> Self:
        """Whatever was ever called would be in use for good: nobody would be warned, and nothing scaled down."""
        name = self.entrypoint_inflight_metric
        if name == self.entrypoint_calls_metric:
            raise ValueError(f"ENTRYPOINT_INFLIGHT_METRIC={name!r}: must be a gauge, not ENTRYPOINT_CALLS_METRIC")
        return self
