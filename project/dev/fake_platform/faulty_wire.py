"""The middleware around all external services: it applies the faults and records every request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from dev.fake_platform.call import Call
from dev.fake_platform.faults import Fault, plain


@dataclass(frozen=True)
class Exchange:
    """One request and its outcome; `at` in Unix seconds."""

    at: float
    service: str
    method: str
    path: str
    query: dict[str, str]
    body: Any | None
    authorization: bool
    fault: str | None  # the name of the fault applied to it
    handled: int | None  # the status that the service decided on; None: it never got the request
    status: int | None  # the status the caller was sent; None: no answer
    request_id: str | None = None


@dataclass
class ArmedFault:
    """A fault that applies to coming calls."""

    service: str
    fault: Fault
    path: str
    method: str | None
    left: int | None  # how many more calls it applies to; None: all
    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    met: asyncio.Event = field(default_factory=asyncio.Event)  # set once it has applied to a call

    def applies_to(self, service: str, method: str, path: str) -> bool:
        """Whether it applies to this call."""
        return self.left != 0 and service == self.service and self.path in path and self.method in (None, method)


class FaultyWire:
    """ASGI middleware around all services: the first armed fault that applies to a call decides its outcome."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float]) -> None:
        """Wrap `app`; `connections` is set once the server runs."""
        self.history: list[Exchange] = []
        self.armed: list[ArmedFault] = []
        self.connections: Iterable[object] = ()
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request and record it, whatever happens."""
        at = self._clock()
        protocol = self._protocol(scope)
        if protocol is None:
            return  # the caller left before its request was read
        call = Call(self._app, scope, receive, send, protocol)
        if not await call.read():
            return  # an incomplete request, as of a process killed while sending, is not recorded
        armed = self._take(_service(scope), scope["method"], scope["path"])
        try:
            if armed is None:
                await plain(call, asyncio.Event())
            else:
                await armed.fault.behave(call, armed.cleared)
        finally:
            self.history.append(_exchange(at, call, armed))

    def arm(self, armed: ArmedFault) -> ArmedFault:
        """Apply it to calls from now on; its `left` counts down."""
        self.armed.append(armed)
        return armed

    def disarm(self, armed: ArmedFault) -> None:
        """End one fault, and let the calls that hang because of it go on."""
        armed.cleared.set()
        self.armed = [other for other in self.armed if other is not armed]

    def clear(self, service: str | None) -> None:
        """Disarm the faults of one service, or all, and let hanging calls go on."""
        for armed in self.armed:
            if service in (None, armed.service):
                armed.cleared.set()
        self.armed = [armed for armed in self.armed if not armed.cleared.is_set()]

    def _take(self, service: str, method: str, path: str) -> ArmedFault | None:
        for armed in self.armed:
            if armed.applies_to(service, method, path):
                armed.left = None if armed.left is None else armed.left - 1
                armed.met.set()
                return armed
        return None

    def _protocol(self, scope: Scope) -> H11Protocol | None:
        # ASGI does not pass the connection on, but the server knows it by the caller's address.
        found = (item for item in self.connections if isinstance(item, H11Protocol) and item.client == scope["client"])
        return next(found, None)


def _service(scope: Scope) -> str:
    """The service that is called: the first segment of the path."""
    return str(scope["path"]).strip("/").split("/")[0]


def _exchange(at: float, call: Call, armed: ArmedFault | None) -> Exchange:
    scope = call.scope
    try:
        body = json.loads(call.body) if call.body else None
    except ValueError:
        body = None
    return Exchange(
        at=at,
        service=_service(scope),
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
        body=body,
        authorization=any(name == b"authorization" for name, _ in scope["headers"]),
        fault=armed.fault.name if armed else None,
        handled=call.handled,
        status=call.status,
        request_id=next((value.decode() for name, value in scope["headers"] if name == b"x-request-id"), None),
    )
