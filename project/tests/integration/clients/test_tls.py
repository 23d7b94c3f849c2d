"""External services over TLS with an authority of one's own: real handshakes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from limiter.domain.job import Job
from tests.conftest import MakeBench

EMPTY = b'{"items": [], "total": 0, "offset": 0, "limit": 100}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(EMPTY) + EMPTY


@asynccontextmanager
async def registry_over_tls(authority: trustme.CA, *, asks: bool = False) -> AsyncIterator[str]:
    """The URL of a registry without models, whose certificate this authority has signed; it may ask for ours."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"\r\n", b""):
            pass
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "localhost", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("known", [True, False])
async def test_a_service_is_trusted_by_the_file_of_authorities_alone(
    make_bench: MakeBench, tmp_path: Path, known: bool
) -> None:
    authority, another = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.pem"
    (authority if known else another).cert_pem.write_to_path(str(file))
    async with registry_over_tls(authority) as url:
        bench = await make_bench(MODEL_REGISTRY_URL=url, HTTP_CA_FILE=file, HTTP_ATTEMPTS=1)
        report = await bench.attempt(Job.RPS_CHECK)
    assert report.state == ("completed" if known else "failed")
    assert report.detail is None if known else "certificate verify failed" in (report.detail or "")
    assert ("registry_unavailable" in bench.criticals()) is not known


@pytest.mark.parametrize("signed", [True, False])
async def test_a_service_that_asks_who_we_are_is_shown_our_certificate(
    make_bench: MakeBench, tmp_path: Path, signed: bool
) -> None:
    authority, another = trustme.CA(), trustme.CA()
    trusted, ours = tmp_path / "ca.pem", tmp_path / "ours.pem"
    authority.cert_pem.write_to_path(str(trusted))
    issued = (authority if signed else another).issue_cert("rps-limiter")
    issued.private_key_and_cert_chain_pem.write_to_path(str(ours))
    async with registry_over_tls(authority, asks=True) as url:
        files = {"HTTP_CA_FILE": trusted, "HTTP_CERTIFICATE_FILE": ours}
        bench = await make_bench(MODEL_REGISTRY_URL=url, HTTP_ATTEMPTS=1, **files)
        report = await bench.attempt(Job.RPS_CHECK)
    assert report.state == ("completed" if signed else "failed")


@pytest.mark.parametrize("known", [True, False])
async def test_certificates_that_are_renewed_while_we_run_are_used_from_then_on(
    make_bench: MakeBench, tmp_path: Path, known: bool
) -> None:
    old, authority = trustme.CA(), trustme.CA()
    trusted, ours = tmp_path / "ca.pem", tmp_path / "ours.pem"
    old.cert_pem.write_to_path(str(trusted))
    old.issue_cert("rps-limiter").private_key_and_cert_chain_pem.write_to_path(str(ours))
    async with registry_over_tls(authority, asks=True) as url:
        files = {"HTTP_CA_FILE": trusted, "HTTP_CERTIFICATE_FILE": ours}
        bench = await make_bench(MODEL_REGISTRY_URL=url, HTTP_ATTEMPTS=1, **files)
        assert (await bench.attempt(Job.RPS_CHECK)).state == "failed"
        authority.cert_pem.write_to_path(str(trusted))
        chain = authority.issue_cert("rps-limiter").private_key_and_cert_chain_pem.bytes()
        ours.write_bytes(chain if known else chain[:500])  # half written
        report = await bench.attempt(Job.RPS_CHECK)
        assert report.state == ("completed" if known else "failed"), report
        ours.write_bytes(chain)
        await bench.run(Job.RPS_CHECK)
