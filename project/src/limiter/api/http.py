"""Health and metrics over HTTP."""

import re
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from limiter.api.health import OK, Health
from limiter.api.status_page import page

# Nothing is loaded from elsewhere, no script runs, nobody shows the page inside his own, and no cache keeps it.
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
READ_AGAIN = "15"  # seconds until a browser reads the status page again


async def _status_of(health: Health, request: Request) -> dict[str, Any] | Response:
    """The status with the page of models that is asked for, or the answer why there is none."""
    number = request.query_params.get("page", "1")
    if not re.fullmatch(r"[1-9]\d{0,5}", number, re.ASCII):
        return PlainTextResponse(f"page: {number[:40]!r} is not a whole number from 1 to 999999\n", 422)
    return await health.status(int(number)) or PlainTextResponse("Postgres does not answer: nothing is known\n", 503)


def http_app(health: Health) -> Starlette:
    """The ASGI application of one replica."""

    async def liveness(_: Request) -> Response:
        alive = health.alive()
        return JSONResponse({"status": alive}, 200 if alive == OK else 503)

    async def readiness(_: Request) -> Response:
        found = await health.dependencies()
        ready = all(state == OK for state in found.values())
        warnings = [*health.warnings, *filter(None, [health.log()])]
        page = {"status": OK if ready else "not ready", "dependencies": found, "warnings": warnings}
        return JSONResponse(page, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        await health.show()
        return Response(generate_latest(health.telemetry.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def status_page(request: Request) -> Response:
        shown = await _status_of(health, request)
        if isinstance(shown, Response):
            return shown
        # A header, not a script; and who reads slowly, or with a screen reader, can have it stop (WCAG 2.2.1).
        again = request.query_params.get("refresh") != "off"
        return HTMLResponse(page(shown, again=again), headers=SAFE | ({"Refresh": READ_AGAIN} if again else {}))

    async def status_json(request: Request) -> Response:
        shown = await _status_of(health, request)
        return shown if isinstance(shown, Response) else JSONResponse(shown, headers=SAFE)

    return Starlette(
        routes=[
            Route("/", status_page),
            Route("/status", status_json),
            Route("/health/liveness", liveness),
            Route("/health/readiness", readiness),
            Route("/metrics", metrics),
        ]
    )
