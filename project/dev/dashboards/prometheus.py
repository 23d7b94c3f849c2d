"""A private Prometheus that scrapes the replicas, and the queries of a dashboard's panels."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from dev.servers.processes import as_account, find_program, free_port
from dev.servers.replica import ROOT

DASHBOARD = ROOT / "deploy/grafana/dashboards/rps-limiter.json"
RULES = ROOT / "deploy/prometheus/rules.yml"
SCRAPE_SECONDS = 1
START_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Query:
    """One query of a panel; `legend` names each series it finds."""

    room: str
    panel: str
    expression: str
    legend: str

    def named(self, labels: dict[str, str]) -> str:
        """The series' name, as Grafana writes it."""
        return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), self.legend)


def queries() -> Iterator[Query]:
    """Every query of the dashboard, room by room."""
    room = ""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] == "row":
            room = panel["title"]
        for target in panel.get("targets", []):
            yield Query(room, panel["title"], target["expr"], target["legendFormat"])


class Prometheus:
    """Asks the API of a Prometheus."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def now(self, query: Query) -> dict[str, float]:
        """What the query shows now, by the names of its series; raises httpx.HTTPStatusError if it is refused."""
        found = await self.get("query", query=query.expression)
        return {query.named(series["metric"]): float(series["value"][1]) for series in found["result"]}

    async def over(self, query: Query, start: float, end: float) -> dict[str, list[tuple[float, float]]]:
        """What the query showed between two moments in Unix seconds, a point each second."""
        found = await self.get("query_range", query=query.expression, start=start, end=end, step=SCRAPE_SECONDS)
        return {
            query.named(series["metric"]): [(at - start, float(value)) for at, value in series["values"]]
            for series in found["result"]
        }

    async def get(self, what: str, **parameters: Any) -> Any:
        answer = await self._client.get(f"/api/v1/{what}", params=parameters)
        answer.raise_for_status()
        return answer.json()["data"]


@asynccontextmanager
async def prometheus(ports: Iterable[int], directory: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes these ports and evaluates our rules; it ends with the context."""
    port = free_port()
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "rps-limiter",
                "honor_labels": True,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
            }
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    program: list[str | Path] = [
        find_program("prometheus", "/usr/bin/prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = _started(program, directory / "prometheus.log")
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                while not await _ready(client):
                    await asyncio.sleep(0.1)
            yield Prometheus(client)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


def _started(program: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as sink:
        return subprocess.Popen(as_account(None, signal.SIGKILL, program), stdout=sink, stderr=sink)


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).status_code == 200
    except httpx.HTTPError:
        return False
