"""How requests go out: reads through aiohttp, at an eighth of the processor time, and all others through httpx.

aiohttp repeats a DELETE by itself if the connection breaks, and does not tell a request that was not sent from one that
got no answer. So it carries nothing that changes anything. What does has a connection of its own: on one that was kept
it may meet the server closing it, and then nobody knows whether it was carried out.
"""

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream

from limiter.clients.certificates import Certificates

CHUNK = 2**18  # bytes read at once: a metrics page of many megabytes comes in few pieces


class Departure:
    """Whether a request that changes something has begun to go out, as httpx tells its `trace` extension."""

    def __init__(self) -> None:
        """Not yet."""
        self.begun = False

    async def __call__(self, event: str, info: object) -> None:
        """Take note of one step of the request."""
        self.begun = self.begun or event.endswith("send_request_headers.started")


class Transport(httpx.AsyncBaseTransport):
    """GETs through aiohttp, everything else through httpx's own transport."""

    def __init__(self, certificates: Certificates | None, connections: int) -> None:
        """At most so many connections each; without certificates for services that are not asked by https."""
        limits = httpx.Limits(max_connections=connections)
        verify = certificates.context if certificates is not None else False
        self._certificates = certificates
        self._connections = connections
        self._ssl = verify
        self._reads = AiohttpTransport(verify=verify, limits=limits, trust_env=False, client=self._session)
        once = httpx.Limits(max_connections=connections, max_keepalive_connections=0)
        self._others = httpx.AsyncHTTPTransport(verify=verify, limits=once, trust_env=False)

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._ssl)
        session = aiohttp.ClientSession(connector=connector, read_bufsize=CHUNK, cookie_jar=aiohttp.DummyCookieJar())
        session._retry_connection = False  # `ServiceClient` repeats, and counts; there is no public way to say so
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return the answer, its body still to be read."""
        if self._certificates is not None:
            self._certificates.follow()
        if request.method != "GET":
            return await self._others.handle_async_request(request)
        try:
            response = await self._reads.handle_async_request(request)
        except httpx.ConnectTimeout as error:
            raise _read_error(error) or error from error.__cause__
        assert isinstance(response.stream, AiohttpResponseStream)
        response.stream.CHUNK_SIZE = CHUNK
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await self._reads.aclose()
        await self._others.aclose()


def _read_error(error: httpx.ConnectTimeout) -> httpx.ReadError | None:
    """What it is in truth: a connection that broke later is reported as one that was never made."""
    cause = error.__cause__
    if not isinstance(cause, aiohttp.ClientConnectionError):
        return None
    unmade = isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return None if unmade else httpx.ReadError(str(cause))
