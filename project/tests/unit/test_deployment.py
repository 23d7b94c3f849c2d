"""What is deployed fits the service: image, compose, pgbouncer, alerts, dashboard and their handbook."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from prometheus_client import Metric

from dev.fake_platform.booking import TOKEN
from limiter import VERSION
from limiter.config.base import SECRETS
from limiter.config.database import MigrationSettings
from limiter.config.loading import load
from limiter.config.settings import Settings
from limiter.telemetry import Telemetry, labels

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ALERTS = [
    rule for group in yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERT_TESTS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/rules.test.yml").read_text())["tests"]
SETTINGS = {name.upper() for name in Settings.model_fields}


# --- the images -------------------------------------------------------------------------------------------------------


def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's instructions, by stage; a stage begins with those of the stage it is built from."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in filter(None, joined.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = [*found.get(base, [])]
        current.append((instruction, rest.strip()))
    return found


def of(stage: str, instruction: str) -> list[str]:
    return [rest for name, rest in stages()[stage] if name == instruction]


def copied(stage: str) -> list[str]:
    """The sources copied from the build context."""
    copies = [rest.split() for rest in of(stage, "COPY") if not rest.startswith("--from")]
    return [source for *sources, _ in copies for source in sources]


def enters_the_context(path: str) -> bool:
    """Whether .dockerignore lets the path in: the last pattern that matches it or a parent decides."""
    enters = True
    places = [path, *(str(parent) for parent in Path(path).parents)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if line and not line.startswith("#"):
            candidates = [Path(path).name, *Path(path).parts] if "**/" in line else places
            if any(fnmatch(place, pattern) for place in candidates):
                enters = line.startswith("!")
    return enters


def command(check: str) -> list[str]:
    found: list[str] = json.loads(check[check.index("[") :])
    return found


def test_the_default_image_is_the_limiter() -> None:
    assert list(stages())[-1] == "limiter"
    assert json.loads(of("limiter", "CMD")[-1]) == ["python", "project/src/main.py"]
    assert of("limiter", "STOPSIGNAL") == ["SIGTERM"]


def test_a_replica_has_a_handler_for_sigterm_before_it_imports_anything() -> None:
    process = subprocess.Popen([sys.executable, ROOT / "project/src/main.py"], env={}, stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None and not _catches(status.read_text(), signal.SIGTERM):
        pass
    process.terminate()
    assert process.wait() == 0  # without any setting it would end by itself, with 2


def started_with(app: str, directory: Path) -> tuple[int, str]:
    """How a start ends, and what it writes as an error, with this text as the service's module."""
    (directory / "limiter").mkdir()
    (directory / "limiter/app.py").write_text(app)
    program = f"import runpy; runpy.run_path({str(ROOT / 'project/src/main.py')!r}, run_name='__main__')"
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, env={"PYTHONPATH": str(directory)}, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


DEAF = """
import signal

class Deaf:
    def __del__(self):
        signal.raise_signal(signal.{name})

Deaf()

def main():
    return 3
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_while_python_hears_no_exception_ends_a_replica_that_starts(
    tmp_path: Path, name: str
) -> None:
    assert started_with(DEAF.format(name=name), tmp_path) == (0, "")


GARBAGE = """
import gc

assert not gc.isenabled()

def main():
    return 0 if gc.isenabled() and gc.get_freeze_count() else 3
"""


def test_garbage_is_looked_for_once_all_is_imported_and_not_before(tmp_path: Path) -> None:
    assert started_with(GARBAGE, tmp_path) == (0, "")


def _catches(status: str, number: signal.Signals) -> bool:
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> number - 1 & 1)


@pytest.mark.parametrize("stage", ["limiter", "platform"])
def test_an_image_does_not_run_as_root(stage: str) -> None:
    assert of(stage, "USER")[-1].split(":")[0] not in ("0", "root")


def test_the_limiter_image_has_neither_tests_nor_development_tools() -> None:
    assert copied("limiter") == ["alembic.ini", "project/migrations", "project/src"]
    assert not any("requirements-dev" in rest for stage in stages().values() for _, rest in stage)


@pytest.mark.parametrize("stage", ["limiter", "platform"])
def test_an_image_says_what_it_is_and_of_which_version(stage: str) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', " ".join(of(stage, "LABEL"))))
    assert labels.keys() == {"title", "description", "version", "source", "revision"}
    assert labels["version"] == VERSION
    assert SERVICES[stage]["image"] == f"{labels['title']}:{VERSION}"


def test_the_images_install_only_locked_wheels_from_where_the_build_says() -> None:
    (install,) = of("packages", "RUN")
    assert all(option in install for option in ("--require-hashes", "--only-binary=:all:", "--no-deps"))
    assert {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"} == set(of("packages", "ARG"))
    for stage in ("limiter", "platform"):
        assert SERVICES[stage]["build"]["args"] == of("packages", "ARG")
        assert not any("PIP" in rest for name, rest in stages()[stage] if name in ("ARG", "ENV"))


@pytest.mark.parametrize("stage", ["packages", "limiter", "platform"])
def test_what_an_image_copies_enters_the_build_context(stage: str) -> None:
    for source in copied(stage):
        assert (ROOT / source).exists()
        assert enters_the_context(source), source
        assert enters_the_context(f"{source}/inside.py") or (ROOT / source).is_file()


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/HEAD",
        "requirements-dev.txt",
        "secrets/postgres_password",
        "project/tests/x.py",
        "project/dev/demo/story.py",
        "project/dev/servers/services.py",
        "project/dev/deployment/engine.py",
        "project/src/a.pyc",
    ],
)
def test_the_rest_stays_out_of_the_build_context(path: str) -> None:
    assert not enters_the_context(path)


def test_the_platform_image_has_all_that_the_platform_imports() -> None:
    inside = [ROOT / source for source in copied("platform")]
    files = [file for place in inside for file in ([place] if place.is_file() else place.rglob("*.py"))]
    text = "\n".join(file.read_text() for file in files)
    assert not re.search(r"^\s*(from|import) limiter", text, re.MULTILINE)
    for module in set(re.findall(r"^\s*(?:from|import) (dev[\w.]*)", text, re.MULTILINE)):
        place = ROOT / "project" / module.replace(".", "/")
        assert place.with_suffix(".py") in files or place / "__init__.py" in files, module


def test_the_platform_image_runs_the_fake_platform() -> None:
    assert json.loads(of("platform", "CMD")[-1]) == ["python", "-m", "dev.fake_platform"]
    assert copied("platform") == ["project/dev/fake_platform"]
    assert (ROOT / "project/dev/fake_platform/__main__.py").is_file()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_liveness_on_the_configured_port(status: int, code: int) -> None:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    (check,) = of("limiter", "HEALTHCHECK")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        environment = {"HTTP_PORT": str(server.server_port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *command(check)[1:]], env=environment, capture_output=True)
        server.shutdown()
    assert (done.returncode, asked) == (code, ["/health/liveness"])


# --- compose ----------------------------------------------------------------------------------------------------------


def dotenv(*names: str) -> dict[str, str]:
    text = "\n".join((ROOT / name).read_text() for name in names)
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text)).items()}


def interpolated(value: str, from_dotenv: dict[str, str]) -> str:
    """`${NAME:-default}` and `${NAME:?error}` as compose fills them in."""

    def fill(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        assert from_dotenv.get(name) or kind == ":-", rest
        return from_dotenv.get(name) or rest

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", fill, value)


Effective = Callable[..., Settings]


@pytest.fixture
def effective(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Effective:
    """The settings of a service that compose starts with these files as its .env, after deploy/prepare.sh."""

    def loaded(*files: str, service: str = "limiter", kind: Callable[[], Any] = load) -> Any:
        shutil.copytree(DEPLOY, tmp_path / "deploy")
        (tmp_path / ".env").write_text("".join((ROOT / name).read_text() for name in files))
        subprocess.run([tmp_path / "deploy/prepare.sh"], check=True)
        from_dotenv = dotenv(*files)
        fixed = {name: interpolated(value, from_dotenv) for name, value in SERVICES[service]["environment"].items()}
        given = {f"/run/secrets/{name}" for name in SERVICES[service]["secrets"]}
        for name in SETTINGS:
            monkeypatch.delenv(name, raising=False)
        for name, value in (from_dotenv | fixed).items():
            path = tmp_path / "secrets" / Path(value).name if value in given else value
            monkeypatch.setenv(name, str(path))
        return kind()

    return loaded


@pytest.mark.parametrize("service", ["limiter", "migrate"])
def test_compose_sets_only_variables_that_exist(service: str) -> None:
    assert SERVICES[service]["environment"].keys() <= SETTINGS | {f"{name}_FILE" for name in SECRETS}
    assert SERVICES[service]["env_file"] == ".env"


def test_compose_and_example_make_settings_that_load(effective: Effective) -> None:
    settings = effective("example.env", "deploy/demo.env")
    assert "@pgbouncer:6432/" in settings.database_url.get_secret_value()
    assert "@rabbitmq:5672/" in settings.rabbitmq_url.get_secret_value()
    assert str(settings.http_port) == SERVICES["limiter"]["expose"][0] == of("limiter", "EXPOSE")[-1]
    grace = int(SERVICES["limiter"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.shutdown_timeout_seconds + settings.rabbitmq_timeout_seconds


def test_migrations_go_straight_to_postgres(effective: Effective) -> None:
    settings = effective("example.env", "deploy/demo.env", service="migrate", kind=MigrationSettings)
    assert "@postgres/" in settings.url


def test_the_addresses_of_the_example_are_those_of_compose() -> None:
    example, fixed = dotenv("example.env"), SERVICES["limiter"]["environment"]
    for name in ("HTTP_HOST", "HTTP_PORT"):
        assert interpolated(fixed[name], {}) == example[name]


def test_the_demo_may_cancel_at_the_platform(effective: Effective) -> None:
    settings = effective("example.env", "deploy/demo.env")
    assert settings.booking_service_token.get_secret_value() == TOKEN
    port = re.search(r"PLATFORM_PORT=(\d+)", of("platform", "ENV")[-1])
    assert port is not None
    assert settings.model_registry_url == f"http://platform:{port[1]}/registry"


def test_without_the_dotenv_file_compose_says_what_to_do() -> None:
    with pytest.raises(AssertionError, match=r"cp example\.env \.env"):
        interpolated(SERVICES["limiter"]["environment"]["MODEL_REGISTRY_URL"], {})


def test_the_limiter_waits_for_the_migrations_and_they_for_postgres() -> None:
    assert SERVICES["limiter"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "pgbouncer": {"condition": "service_healthy"},
        "rabbitmq": {"condition": "service_healthy"},
    }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["command"] == ["alembic", "upgrade", "head"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_stays_has_a_health_check_and_is_restarted(name: str) -> None:
    service = SERVICES[name]
    if service["restart"] == "no":
        waited_for = [other["depends_on"][name] for other in SERVICES.values() if name in other.get("depends_on", {})]
        assert waited_for == [
            {"condition": "service_completed_successfully"}
        ]  # else `up --wait` takes its end as failure
    else:
        assert service["restart"] == "unless-stopped"
        assert "healthcheck" in service or of(service["build"]["target"], "HEALTHCHECK")


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_ports_are_published_on_this_machine_only(name: str) -> None:
    assert re.search(r":v?\d", SERVICES[name]["image"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_two_replicas_do_not_fight_for_a_port() -> None:
    assert SERVICES["limiter"]["deploy"]["replicas"] == 2
    assert "ports" not in SERVICES["limiter"]


def test_every_file_that_compose_mounts_exists() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    for source in (mount.split(":")[0] for mount in mounts):
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_pgbouncer_pools_transactions_and_never_cuts_a_guard_transaction_off() -> None:
    ini = ConfigParser(interpolation=None)
    ini.read(DEPLOY / "pgbouncer/pgbouncer.ini")
    pool = ini["pgbouncer"]
    assert (pool["pool_mode"], pool["idle_transaction_timeout"]) == ("transaction", "0")
    assert (pool["max_prepared_statements"], pool["server_login_retry"]) == ("0", "1")
    assert pool["ignore_startup_parameters"] == "extra_float_digits"
    assert f"@pgbouncer:{pool['listen_port']}/" in (DEPLOY / "prepare.sh").read_text()
    assert f">{pool['auth_file']}" in (DEPLOY / "pgbouncer/start.sh").read_text()


def test_the_demo_makes_our_events_routable() -> None:
    defined = json.loads((DEPLOY / "rabbitmq/definitions.json").read_text())
    settings = {name: field.default for name, field in Settings.model_fields.items()}
    (exchange,) = defined["exchanges"]
    assert (exchange["name"], exchange["type"], exchange["durable"]) == (settings["notifier_exchange"], "topic", True)
    queues = {queue["name"] for queue in defined["queues"]}
    bound = {binding["routing_key"] for binding in defined["bindings"] if binding["destination"] in queues}
    assert bound == {settings["notifier_no_use_routing_key"], settings["notifier_deployed_routing_key"]}


# --- alerts and dashboard ---------------------------------------------------------------------------------------------


def exposed() -> set[str]:
    """The names of all series of ours that a replica exposes, errors it has not met yet included."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}

    def names(metric: Metric) -> list[str]:
        return [metric.name + suffix for suffix in suffixes[metric.type]]

    own = [metric for metric in Telemetry().registry.collect() if metric.name.startswith("rps_limiter_")]
    return {name for metric in own for name in names(metric)}


def named(text: str) -> set[str]:
    return set(re.findall(r"rps_limiter_\w+", text))


def test_alerts_and_dashboard_only_name_metrics_that_exist() -> None:
    expressions = [rule["expr"] for rule in ALERTS]
    dashboard = json.loads((DEPLOY / "grafana/dashboards/rps-limiter.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert named("\n".join(expressions + shown)) <= exposed()
    base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed()}
    assert {re.sub(r"_bucket$", "", name) for name in named("\n".join(shown))} == base, "a metric nobody sees"


def test_the_dashboard_shows_no_process_but_ours() -> None:
    dashboard = (DEPLOY / "grafana/dashboards/rps-limiter.json").read_text().replace("\\", "")
    asked = re.findall(r"\bprocess_\w+(?:\{[^}]*\})?", dashboard)
    assert asked
    assert all(one.endswith('{job="rps-limiter"}') for one in asked)


def label_values() -> dict[str, dict[str, set[str]]]:
    """By the names of our series and of their labels, the values that are there from the start."""
    found: dict[str, dict[str, set[str]]] = {}
    for metric in Telemetry().registry.collect():
        for sample in metric.samples:
            for label, value in sample.labels.items():
                found.setdefault(sample.name, {}).setdefault(label, set()).add(value)
    return found


def test_alerts_and_dashboard_only_ask_for_label_values_that_exist() -> None:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/rps-limiter.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    known = label_values()
    asked = 0
    for name, matchers in re.findall(
        r"(rps_limiter_\w+)\{([^}]*)\}", "\n".join([rule["expr"] for rule in ALERTS] + shown)
    ):
        for label, operator, wanted in re.findall(r"(\w+)(=~|!=|=)\"([^\"]*)\"", matchers):
            for value in wanted.split("|") if label in known.get(name, {}) else ():
                assert any(re.fullmatch(value, one) for one in known[name][label]), (name, label, operator, value)
                asked += 1
    assert asked > 10


def test_the_dashboard_asks_the_datasource_that_is_provisioned() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    dashboard = json.loads((DEPLOY / "grafana/dashboards/rps-limiter.json").read_text())
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"] if panel["type"] != "row"}
    assert used == {source["uid"] for source in sources}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_prometheus_keeps_our_own_label_job() -> None:
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert scrape["honor_labels"] is True
    assert scrape["job_name"] == "rps-limiter"
    (discovery,) = scrape["dns_sd_configs"]
    assert discovery["names"] == ["limiter"]
    assert str(discovery["port"]) == SERVICES["limiter"]["environment"]["HTTP_PORT"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_is_tested_and_has_a_section_in_the_handbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["annotations"]["runbook_url"] == "{{ $externalLabels.runbooks }}#" + name.lower()
    handbook = (ROOT / "docs/operations.md").read_text()
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", handbook, re.MULTILINE | re.DOTALL)
    assert all(part in section for part in ("**Means.**", "**Look at.**", "**Do.**"))
    cases = [case for test in ALERT_TESTS for case in test["alert_rule_test"] if case["alertname"] == name]
    assert any(case["exp_alerts"] for case in cases)
    assert any(not case["exp_alerts"] for case in cases)


def test_the_handbook_lists_its_sections_and_says_what_to_do_about_each_reason() -> None:
    handbook = (ROOT / "docs/operations.md").read_text()
    contents, *sections = re.split(r"^## ", handbook, flags=re.MULTILINE)
    assert [alert["alert"] for alert in ALERTS if f"(#{alert['alert'].lower()})" not in contents] == []
    (reasons,) = [section for section in sections if section.startswith("RpsLimiterCriticalErrors\n")]
    of_services = re.compile(r"\w+_(unavailable|rejected|contract_broken)")
    others = [reason for reason in labels.CRITICALS if not of_services.fullmatch(reason) and reason != "saga_stuck"]
    assert [reason for reason in others if f"{reason}`" not in reasons] == []


def test_the_handbook_only_links_to_sections_it_has() -> None:
    handbook = (ROOT / "docs/operations.md").read_text()
    titles = re.findall(r"^## (.*)$", handbook, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", handbook)) <= anchors
    assert named(handbook) <= exposed()
