"""Calls to an external service: bounded, retried where that is safe, counted."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp
import httpx

from limiter.clients.answer import check_status
from limiter.clients.circuit import Circuit
from limiter.clients.errors import CircuitOpen, NotAllowed, NotSent, Rejected, ServiceError, Unavailable
from limiter.clients.transport import Departure
from limiter.telemetry import Telemetry

Call = Callable[[], Awaitable[httpx.Response]]
Check = Callable[[], object]
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
REQUEST_ID = "X-Request-ID"  # by which a call is found in the logs of both sides


@dataclass(frozen=True)
class ServiceClient:
    """One external service behind the shared client."""

    name: str
    url: str
    http: httpx.AsyncClient
    telemetry: Telemetry
    timeout: float
    attempts: int
    retry_first: float
    concurrency: int
    circuit: Circuit
    token: str = field(default="", repr=False)
    read_only: bool = False

    async def get(self, path: str, *, alone: bool = False, **params: str | int) -> bytes:
        """GET; of a thing that stands `alone` a 500 tells of nothing else: it does not open the circuit."""
        if alone:
            await self.circuit.trial_over()  # which may tell nothing of this one
        return (await self._repeated(lambda: self._send("GET", path, alone=alone, params=params))).content

    async def find(self, path: str) -> bytes | None:
        """GET of one thing; None if there is none (404)."""
        response = await self._repeated(lambda: self._send("GET", path, gone_is_fine=True))
        return None if response.status_code == 404 else response.content

    async def delete(self, path: str, *, repeat: bool, check: Check = lambda: None) -> bool:
        """DELETE, only once unless `repeat`; false if it was gone already (404).

        `check` raises if it may not be made any more: a process may freeze in the pause before a repetition.
        """
        once = partial(self._send, "DELETE", path, gone_is_fine=True)
        return (await (self._repeated(once, check=check) if repeat else once())).status_code != 404

    async def post(self, path: str, body: dict[str, Any], check: Check = lambda: None) -> bytes:
        """POST once; repeated only while the service cannot be reached at all. `check` is as for a DELETE."""
        await self.circuit.trial_over()  # a command that is refused counts as failed, and is backed off
        check()
        return (await self._repeated(lambda: self._send("POST", path, json=body), NotSent, check)).content

    async def _repeated(
        self, call: Call, on: type[Unavailable] = Unavailable, check: Check = lambda: None
    ) -> httpx.Response:
        attempt, unsure = 1, False
        while True:
            try:
                return await call()
            except ServiceError as error:
                error.unsure = unsure
                if attempt == self.attempts or not isinstance(error, on) or not self.asks_again(error):
                    raise
                attempt, unsure = attempt + 1, not error.undone
                await self.pause(attempt - 1, error.retry_after)
                check()

    def asks_again(self, error: Unavailable) -> bool:
        """Whether another attempt is worth its while: not if the service is to be left alone for longer than a call."""
        return not isinstance(error, CircuitOpen) and error.retry_after <= self.timeout

    async def pause(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before the next attempt, with full jitter: replicas that failed together must not return together."""
        jitter = random.uniform(0, self.retry_first * 2**attempt)  # noqa: S311 - not a secret
        await asyncio.sleep(at_least + jitter)

    async def _send(
        self, method: str, path: str, *, gone_is_fine: bool = False, alone: bool = False, **extra: Any
    ) -> httpx.Response:
        if self.read_only and method != "GET":
            raise Rejected(f"{self.name}: {method} {path}: DRY_RUN is on", self.name)
        departure = None if method == "GET" else Departure()
        async with self.answered(f"{method} {path}", departure, alone) as request_id:
            headers = self._headers() | {REQUEST_ID: request_id}
            watched = {"trace": departure} if departure else {}
            response = await self.http.request(method, self.url + path, headers=headers, extensions=watched, **extra)
            check_status(response, gone_is_fine=gone_is_fine)
            return response

    def _headers(self) -> dict[str, str]:
        if not (self.token.isascii() and self.token.isprintable()):
            raise NotAllowed(f"{self.name}: the token has characters that no header can carry", self.name)
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @asynccontextmanager
    async def answered(self, what: str, departure: Departure | None = None, alone: bool = False) -> AsyncIterator[str]:
        """Time and count one call, and translate what can go wrong with it; gives it an id of its own.

        Without a `departure`, only the error tells whether the request was sent.
        """
        request_id = uuid4().hex
        call = f"{what} (request {request_id})"
        if not self.circuit.allows():
            self.telemetry.answered(self.name, "circuit_open")
            raise CircuitOpen(f"{self.name}: {what}: left alone after {self.circuit.failed} failures", self.name)
        outcome, is_trial = "error", self.circuit.is_open
        try:
            with self.telemetry.timed(self.name):
                async with asyncio.timeout(self.timeout):
                    yield request_id
            outcome = "ok"
            self.circuit.succeeded()
        except (httpx.HTTPError, aiohttp.ClientError, TimeoutError) as error:  # aiohttp's own: what is no HTTP at all
            self.circuit.record_failure()
            # The limit of the whole call ends a connecting that hangs before that of the connecting itself.
            if isinstance(error, UNSENT) or (departure and not departure.begun):
                outcome = "unreachable"
                raise NotSent(f"{self.name}: {call}: {str(error) or 'no connection'}", self.name) from error
            outcome = "no_answer"
            raise Unavailable(f"{self.name}: {call}: {str(error) or type(error).__name__}", self.name) from error
        except ServiceError as error:
            outcome = "rejected" if isinstance(error, Rejected) else type(error).__name__.lower()
            # A refusal or a wrong answer is still an answer: only silence and 5xx open the circuit.
            if alone and error.status == 500:
                self.circuit.told_nothing(is_trial=is_trial)
            else:
                (self.circuit.record_failure if isinstance(error, Unavailable) else self.circuit.succeeded)()
            said = error.status, error.retry_after
            raise type(error)(f"{self.name}: {call}: {error}", self.name, *said) from error.__cause__
        finally:
            self.circuit.ended(is_trial=is_trial)
            self.telemetry.answered(self.name, outcome)
            self.telemetry.replica.circuit(self.name, self.url, is_open=self.circuit.is_open)
