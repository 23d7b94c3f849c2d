"""Postgres and RabbitMQ over TLS with an authority of one's own: real handshakes, by a whole replica."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import trustme

from dev.fake_platform.platform import Platform
from dev.servers.postgres import PgBouncer, Postgres
from dev.servers.private_server import PrivateServer
from dev.servers.processes import free_port, write_own
from dev.servers.rabbitmq import RabbitMQ
from dev.servers.services import temporary_directory
from tests.bench import QUICK
from tests.conftest import ROOT
from tests.replicas import FAST, replicas

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost", "127.0.0.1")


def write_certificate(server: PrivateServer) -> None:
    """Put key and certificate into the server's own directory."""
    chain = b"".join(part.bytes() for part in CERTIFICATE.cert_chain_pems)
    write_own(server.directory / "server.pem", chain.decode(), server.account)
    write_own(server.directory / "server.key", CERTIFICATE.private_key_pem.bytes().decode(), server.account)


class TlsPgBouncer(PgBouncer):
    """Takes clients over TLS alone."""

    def prepare(self) -> None:
        super().prepare()
        write_certificate(self)
        settings = (self.directory / "pgbouncer.ini").read_text()
        tls = f"client_tls_sslmode = require\nclient_tls_key_file = {self.directory}/server.key\n"
        tls += f"client_tls_cert_file = {self.directory}/server.pem\n"
        write_own(self.directory / "pgbouncer.ini", settings + tls, self.account)


class TlsRabbitMQ(RabbitMQ):
    """Takes clients over TLS on a second port."""

    listening_text: ClassVar[str] = "started TLS (SSL) listener on 127.0.0.1:{tls_port}"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.tls_port = free_port()
        self.listening_text = self.listening_text.replace("{tls_port}", str(self.tls_port))  # type: ignore[misc]

    def prepare(self) -> None:
        super().prepare()
        write_certificate(self)
        tls = f"""\
listeners.ssl.1 = 127.0.0.1:{self.tls_port}
ssl_options.certfile = {self.directory}/server.pem
ssl_options.keyfile = {self.directory}/server.key
"""
        settings = (self.directory / "rabbitmq.conf").read_text()
        write_own(self.directory / "rabbitmq.conf", settings + tls, self.account)


@dataclass(frozen=True)
class TlsServers:
    """Where they listen, and the files of two authorities: theirs, and one that has signed nothing of theirs."""

    database: int
    rabbitmq: int
    authority: Path
    stranger: Path

    def database_variables(self, authority: Path) -> dict[str, str]:
        """How to reach the database, trusting this authority."""
        url = f"postgresql+asyncpg://postgres@127.0.0.1:{self.database}/postgres?ssl=verify-full"
        return {"DATABASE_URL": url, "PGSSLROOTCERT": str(authority)}

    def environment(self, platform: Platform, authority: Path) -> dict[str, str]:
        """A replica's, which trusts this authority."""
        rabbitmq = {"RABBITMQ_URL": f"amqps://guest:guest@127.0.0.1:{self.rabbitmq}/?cafile={authority}"}
        values = platform.environment() | QUICK | FAST | self.database_variables(authority) | rabbitmq
        return {name: str(value) for name, value in values.items()}


@pytest.fixture(scope="module")
def tls() -> Iterator[TlsServers]:
    """The servers, with our tables in them: each test may be the only one that meets them."""
    directory = temporary_directory()
    postgres, rabbitmq = Postgres(directory), TlsRabbitMQ(directory)
    pgbouncer = TlsPgBouncer(directory, postgres)
    servers = (rabbitmq, postgres, pgbouncer)
    authority, stranger = directory / "authority.pem", directory / "stranger.pem"
    AUTHORITY.cert_pem.write_to_path(str(authority))
    STRANGER.cert_pem.write_to_path(str(stranger))
    try:
        rabbitmq.launch()
        for server in (postgres, pgbouncer, rabbitmq):
            server.start()
        running = TlsServers(pgbouncer.port, rabbitmq.tls_port, authority, stranger)
        migrate(running.database_variables(authority))
        yield running
    finally:
        for server in servers:
            server.stop("immediate")
        subprocess.run(["rm", "-rf", "--", str(directory)], check=True)  # noqa: S607


def migrate(variables: dict[str, str]) -> None:
    head = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(head, cwd=ROOT, env=os.environ | variables, check=True, capture_output=True)


async def test_a_replica_works_over_tls(tls: TlsServers, platform: Platform, tmp_path: Path) -> None:
    variables = tls.environment(platform, tls.authority)
    platform.add_model("a")
    platform.call("a")
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.ready()
        # On a busy machine the page may first be read after several runs.
        done = re.compile(r'rps_limiter_job_runs_total{job="rps_check",outcome="completed"} [1-9]')
        await replica.until(lambda page: done.search(page.text) is not None, "/metrics")
        assert await replica.end() == 0


@pytest.mark.parametrize("of", ["database", "rabbitmq"])
async def test_an_authority_that_has_not_signed_is_refused_and_said_so(
    tls: TlsServers, platform: Platform, tmp_path: Path, of: str
) -> None:
    right, wrong = tls.environment(platform, tls.authority), tls.environment(platform, tls.stranger)
    names = {"database": "PGSSLROOTCERT", "rabbitmq": "RABBITMQ_URL"}
    variables = right | {names[of]: wrong[names[of]]}
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.until(lambda _: f'"{of}_unavailable"' in replica.log.read_text())
        page = await replica.get("/health/readiness")
        assert page.json()["dependencies"][of].startswith("unavailable: ")
        assert await replica.end() == 0
        text = replica.log.read_text()
    line, *_ = [line for line in text.splitlines() if f'"{of}_unavailable"' in line]
    assert "certificate verify failed" in line
    assert "guest:guest" not in text


async def test_who_does_not_ask_for_tls_is_refused_and_said_so(
    tls: TlsServers, platform: Platform, tmp_path: Path
) -> None:
    variables = tls.environment(platform, tls.authority)
    variables["DATABASE_URL"] = variables["DATABASE_URL"].replace("verify-full", "disable")
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.until(lambda _: "SSL required" in replica.log.read_text())
        assert await replica.end() == 0
