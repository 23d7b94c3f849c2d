"""Traces of runs, where TRACES_URL asks for them; without it nothing is traced, and nothing imported for it."""

from typing import Any

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine


class Tracing:
    """Has clients, engines and the broker traced: this one does not."""

    def http(self, client: httpx.AsyncClient) -> None:
        """Trace the calls of this client."""

    def statements(self, engine: AsyncEngine) -> None:
        """Trace the statements of this engine."""

    def middlewares(self) -> tuple[Any, ...]:
        """What has a broker trace its messages."""
        return ()
