"""Traces of runs, where TRACES_URL asks for them; without it nothing is traced, and nothing imported for it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
from dishka import Provider, Scope, provide
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.config.settings import Settings
from limiter.telemetry import Telemetry


class Tracing:
    """Has clients, engines and the broker traced: this one does not."""

    def http(self, client: httpx.AsyncClient) -> None:
        """Trace the calls of this client."""

    def statements(self, engine: AsyncEngine) -> None:
        """Trace the statements of this engine."""

    def middlewares(self) -> tuple[Any, ...]:
        """What has a broker trace its messages."""
        return ()


class Traces(Provider):
    """Tracing as the settings ask for it."""

    scope = Scope.APP

    @provide
    async def tracing(self, settings: Settings, telemetry: Telemetry) -> AsyncIterator[Tracing]:
        if not settings.traces_url:
            yield Tracing()
            return
        from limiter.wiring.opentelemetry_tracing import OpenTelemetryTracing  # its packages are an optional extra

        tracing = OpenTelemetryTracing(settings.traces_url)
        telemetry.run_span = tracing.run_span
        yield tracing
        await tracing.flush()
