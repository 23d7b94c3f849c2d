"""A replica that cannot listen where it should: a real process, which ends and says which variable is wrong."""

import asyncio
import json
import os
import socket
import sys
from typing import Any

import pytest

from dev.fake_platform.platform import Platform
from dev.servers.services import Services
from tests.bench import environment
from tests.conftest import ROOT


async def ended(variables: dict[str, str]) -> tuple[int | None, list[dict[str, Any]]]:
    """Start a replica, and wait until it ends by itself; its exit code, and the lines of its log."""
    path = {"PATH": os.environ["PATH"]}
    main = str(ROOT / "project/src/main.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, main, env=path | variables, stderr=asyncio.subprocess.PIPE
    )
    _, log = await asyncio.wait_for(process.communicate(), 60)
    assert "Traceback" not in log.decode()
    return process.returncode, [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("host", ["127.0.0.1", "a..b"])
async def test_where_it_cannot_listen_is_told_by_variable_value_and_rule(
    services: Services, schema: str, platform: Platform, host: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables = environment(services, schema, platform, HTTP_HOST=host, HTTP_PORT=port)
        code, lines = await ended(variables)
    assert code == 1
    (line,) = (line for line in lines if line.get("event") == "cannot_run")
    rule = f"HTTP_HOST={host!r}, HTTP_PORT={port}: must be an address of this machine and a port that is free: "
    assert line["message"].startswith(rule)
    assert lines[-1]["event"] == "stopped"
