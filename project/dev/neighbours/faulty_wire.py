"""The middleware around all neighbours: it applies the faults and records every request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from dev.neighbours.call import Call
from dev.neighbours.faults import Fault, plain


@dataclass(frozen=True)
class Exchange:
    """One request and what became of it."""

    at: float
    peer: str
    method: str
    path: str
    query: dict[str, str]
    body: Any | None
    authorization: bool
    fault: str | None  # the name of the fault it met
    handled: int | None  # the status at which the neighbour arrived; None: it never saw the request
    status: int | None  # the status the caller was sent; None: no answer


@dataclass
class ArmedFault:
    """A fault that waits for its calls."""

    peer: str
    fault: Fault
    path: str
    method: str | None
    left: int | None  # how many more calls it meets; None: all
    cleared: asyncio.Event = field(default_factory=asyncio.Event)

    def meets(self, peer: str, method: str, path: str) -> bool:
        """Whether it is for this call."""
        return self.left != 0 and peer == self.peer and self.path in path and self.method in (None, method)


class FaultyWire:
    """ASGI middleware around all neighbours: the first armed fault that fits decides what becomes of a call."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float]) -> None:
        """Around `app`; connections are known once the server runs."""
        self.history: list[Exchange] = []
        self.armed: list[ArmedFault] = []
        self.connections: Iterable[object] = ()
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one request through and record it, whatever happens."""
        at = self._clock()
        protocol = self._protocol(scope)
        if protocol is None:
            return  # the caller left before its request was looked at
        call = Call(self._app, scope, receive, send, protocol)
        if not await call.read():
            return  # half a request, as of a process killed while it sends, is none
        armed = self._take(_peer(scope), scope["method"], scope["path"])
        try:
            if armed is None:
                await plain(call, asyncio.Event())
            else:
                await armed.fault.behave(call, armed.cleared)
        finally:
            self.history.append(_exchange(at, call, armed))

    def arm(self, armed: ArmedFault) -> ArmedFault:
        """Let it meet calls from now on; its `left` counts down as it does."""
        self.armed.append(armed)
        return armed

    def clear(self, peer: str | None) -> None:
        """Disarm the faults of one peer, or all, and let hanging calls go on."""
        for armed in self.armed:
            if peer in (None, armed.peer):
                armed.cleared.set()
        self.armed = [armed for armed in self.armed if not armed.cleared.is_set()]

    def _take(self, peer: str, method: str, path: str) -> ArmedFault | None:
        for armed in self.armed:
            if armed.meets(peer, method, path):
                armed.left = None if armed.left is None else armed.left - 1
                return armed
        return None

    def _protocol(self, scope: Scope) -> H11Protocol | None:
        # ASGI gives no hold of the connection, but the server knows it by the caller's address.
        found = (item for item in self.connections if isinstance(item, H11Protocol) and item.client == scope["client"])
        return next(found, None)


def _peer(scope: Scope) -> str:
    """Which neighbour is called: the first segment of the path."""
    return str(scope["path"]).strip("/").split("/")[0]


def _exchange(at: float, call: Call, armed: ArmedFault | None) -> Exchange:
    scope = call.scope
    try:
        body = json.loads(call.body) if call.body else None
    except ValueError:
        body = None
    return Exchange(
        at=at,
        peer=_peer(scope),
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
        body=body,
        authorization=any(name == b"authorization" for name, _ in scope["headers"]),
        fault=armed.fault.name if armed else None,
        handled=call.handled,
        status=call.status,
    )
