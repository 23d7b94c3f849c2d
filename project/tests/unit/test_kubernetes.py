"""deploy/kubernetes fits the published schemas, itself, the settings and the image."""

import re
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values

from limiter import VERSION
from limiter.api.http import http_app
from limiter.config.base import SECRETS
from limiter.config.database import MigrationSettings
from limiter.config.loading import WrongSettings, load, load_as
from limiter.config.settings import Settings

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((FOLDER / name).read_text()) for name in KUSTOMIZATION["resources"]
}
OF_KIND = {resource["kind"]: resource for resource in RESOURCES.values()}
BUILT_IN = [name for name, resource in RESOURCES.items() if "coreos" not in resource["apiVersion"]]
PODS = {kind: OF_KIND[kind]["spec"]["template"] for kind in ("Deployment", "Job")}
SETTINGS = {name.upper(): field for name, field in Settings.model_fields.items()}
GIVEN = dotenv_values(FOLDER / "settings.env", interpolate=False)
PLATFORM = {name: f"http://{name.lower()}.example" for name in GIVEN}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
each_pod = pytest.mark.parametrize("kind", PODS)


def container(kind: str) -> dict[str, Any]:
    (only,) = PODS[kind]["spec"]["containers"]
    return cast("dict[str, Any]", only)


def ports(rules: list[dict[str, Any]]) -> set[int]:
    return {port["port"] for rule in rules for port in rule["ports"]}


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_resource_is_as_kubernetes_publishes_its_kind(name: str, version: str) -> None:
    kubernetes_validate.validate(RESOURCES[name], version, strict=True)


def test_a_field_that_does_not_exist_is_found() -> None:
    wrong = RESOURCES["deployment.yaml"] | {"spec": RESOURCES["deployment.yaml"]["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


def test_every_file_is_applied_and_no_secret_is_among_them() -> None:
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml", "settings.env"}
    assert {file.name for file in FOLDER.iterdir()} == listed
    assert "Secret" not in OF_KIND
    assert "secretGenerator" not in KUSTOMIZATION


def test_every_kind_that_a_deployment_needs_is_there_in_any_namespace() -> None:
    kinds = "Deployment Job NetworkPolicy PodDisruptionBudget PrometheusRule Service ServiceMonitor"
    assert sorted(OF_KIND) == kinds.split()
    assert not any(
        "namespace" in resource["metadata"] for resource in (*RESOURCES.values(), {"metadata": KUSTOMIZATION})
    )


def test_the_image_is_the_one_of_this_version() -> None:
    (image,) = KUSTOMIZATION["images"]
    assert image == {"name": "rps-limiter", "newTag": VERSION}
    assert {container(kind)["image"] for kind in PODS} == {image["name"]}
    assert COMPOSE["limiter"]["image"] == f"{image['name']}:{VERSION}"


# --- settings ---------------------------------------------------------------------------------------------------------


@each_pod
def test_a_pod_sets_only_settings_that_exist_and_reads_its_secrets_from_what_is_mounted(kind: str) -> None:
    (volume,) = PODS[kind]["spec"]["volumes"]
    (mount,) = container(kind)["volumeMounts"]
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    assert volume["secret"]["defaultMode"] == 0o440
    mounted = {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
    named = {one["name"].removesuffix("_FILE"): one["value"] for one in container(kind)["env"]}
    assert named.keys() <= set(SECRETS)
    assert set(named.values()) == mounted
    assert container(kind)["envFrom"] == [{"configMapRef": {"name": KUSTOMIZATION["configMapGenerator"][0]["name"]}}]


def test_the_settings_are_what_has_no_default_and_is_no_secret() -> None:
    required = {name for name, field in SETTINGS.items() if field.is_required()}
    assert GIVEN.keys() == required - set(SECRETS)


def of_pod(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the pod, with its secrets in this folder."""
    for name in (*SETTINGS, *(f"{name}_FILE" for name in SECRETS)):
        monkeypatch.delenv(name, raising=False)
    for one in container(kind)["env"]:
        file = folder / Path(one["value"]).name
        user = "owner" if "migrations" in file.name else "replica"
        file.write_text(
            f"amqp://{user}@rabbitmq/" if "rabbitmq" in file.name else f"postgresql+asyncpg://{user}@here/x"
        )
        monkeypatch.setenv(one["name"], str(file))


def test_a_replica_starts_once_the_platform_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    of_pod("Deployment", tmp_path, monkeypatch)
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value or "")
    with pytest.raises(WrongSettings) as refused:
        load()
    assert sorted(re.findall(r"^(\w+) is not set", str(refused.value), re.MULTILINE)) == sorted(GIVEN)
    for name, value in PLATFORM.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.warnings == {}
    assert settings.http_port == container("Deployment")["ports"][0]["containerPort"]


def test_the_migration_uses_its_own_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    of_pod("Job", tmp_path, monkeypatch)
    assert load_as(MigrationSettings).url == "postgresql+asyncpg://owner@here/x"
    assert container("Job")["command"] == ["alembic", "upgrade", "head"]


# --- the pods ---------------------------------------------------------------------------------------------------------


@each_pod
def test_a_pod_has_no_more_rights_than_it_needs(kind: str) -> None:
    pod, own = PODS[kind]["spec"], container(kind)["securityContext"]
    user = int(re.findall(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1])
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)


@each_pod
def test_a_pod_asks_for_what_it_needs_and_its_processor_is_not_throttled(kind: str) -> None:
    resources = container(kind)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}


def test_two_replicas_and_one_at_least_at_any_time() -> None:
    deployment = OF_KIND["Deployment"]["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert OF_KIND["PodDisruptionBudget"]["spec"]["minAvailable"] == 1


def test_a_replica_has_time_to_end_its_runs() -> None:
    grace = PODS["Deployment"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > sum(SETTINGS[name].default for name in ("SHUTDOWN_TIMEOUT_SECONDS", "RABBITMQ_TIMEOUT_SECONDS"))
    assert f"{grace}s" == COMPOSE["limiter"]["stop_grace_period"]


def test_the_probes_ask_what_is_served() -> None:
    served = {route.path for route in http_app(cast("Any", None)).routes if hasattr(route, "path")}
    probes = {name: container("Deployment")[name] for name in ("livenessProbe", "readinessProbe")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} == {"/health/liveness", "/health/readiness"} & served
    assert probes["livenessProbe"]["httpGet"]["path"] == "/health/liveness"
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {container("Deployment")["ports"][0]["name"]}
    assert probes["readinessProbe"]["timeoutSeconds"] > SETTINGS["HEALTH_TIMEOUT_SECONDS"].default


# --- who belongs to whom ----------------------------------------------------------------------------------------------


def chosen_by(selector: dict[str, str]) -> set[str]:
    """The kinds whose pods a selector chooses."""
    return {kind for kind, pod in PODS.items() if selector.items() <= pod["metadata"]["labels"].items()}


def test_selectors_choose_the_replicas_and_not_the_migration() -> None:
    spread = PODS["Deployment"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
    service = OF_KIND["Service"]
    for selector in (
        OF_KIND["Deployment"]["spec"]["selector"]["matchLabels"],
        OF_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        spread,
    ):
        assert chosen_by(selector) == {"Deployment"}
    assert chosen_by(OF_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]) == {"Deployment", "Job"}
    monitored = OF_KIND["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= service["metadata"]["labels"].items()


def test_prometheus_asks_each_replica_and_names_it_as_the_alerts_expect() -> None:
    (scrape,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    monitor, service = OF_KIND["ServiceMonitor"]["spec"], OF_KIND["Service"]
    (endpoint,) = monitor["endpoints"]
    (port,) = service["spec"]["ports"]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == scrape["job_name"]
    assert endpoint["honorLabels"] is scrape["honor_labels"] is True
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert (port["targetPort"], port["port"]) == ("http", SETTINGS["HTTP_PORT"].default)
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)


def test_the_network_lets_through_what_is_used_and_only_prometheus_in() -> None:
    policy = OF_KIND["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert ports(policy["ingress"]) == {SETTINGS["HTTP_PORT"].default}
    assert all(rule["from"] for rule in policy["ingress"])
    assert ports(policy["egress"]) >= {53, 5432, 6432, 5671, 5672, 80, 443}
