"""The compose file is valid and closed: rights, limits, networks and secrets; `deploy/prepare.sh` makes the secrets."""

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN_PASSWORDS = ("postgres_password", "rabbitmq_password", "grafana_password")

each_service = pytest.mark.parametrize("name", SERVICES)


def secrets_of(name: str) -> set[str]:
    given = SERVICES[name].get("secrets", [])
    return {one if isinstance(one, str) else one["source"] for one in given}


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_follows_the_schema_of_compose() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, ROOT / "docker-compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_service
def test_a_container_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"cap_add", "privileged", "network_mode", "pid", "ipc"}
    assert service.get("user") not in ("root", "0")


@each_service
def test_a_container_cannot_use_up_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert all(service[limit] for limit in ("mem_limit", "cpus", "pids_limit"))
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@each_service
def test_only_the_service_itself_reaches_the_database(name: str) -> None:
    assert COMPOSE["networks"]["back"] == {"internal": True}
    networks = set(SERVICES[name]["networks"])
    if name in ("postgres", "pgbouncer", "migrate", "notificator-queue"):
        assert networks == {"back"}
    elif name in ("limiter", "rabbitmq"):
        assert networks == {"back", "front"}
    else:
        assert networks == {"front"}


@each_service
def test_a_published_port_is_not_only_on_the_internal_network(name: str) -> None:
    assert "ports" not in SERVICES[name] or "front" in SERVICES[name]["networks"]


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    assert not re.search(r"PASS(WORD)?(?!\w*_FILE)\w*:", text)
    for default in re.findall(r"\$\{(\w+):?-[^}]+\}", text):
        assert default == "RABBITMQ_PAGES_PORT"


def test_each_service_gets_its_own_secrets_only() -> None:
    assert {name: secrets_of(name) for name in SERVICES if secrets_of(name)} == {
        "postgres": {"postgres_password"},
        "pgbouncer": {"postgres_password"},
        "rabbitmq": {"rabbitmq_login"},
        "migrate": {"database_url", "migrations_database_url"},
        "limiter": {"database_url", "rabbitmq_url", "booking_service_token"},
        "notificator-queue": {"rabbitmq_password"},
        "grafana": {"grafana_password"},
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a checkout as deploy/prepare.sh needs, with a .env."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copy(ROOT / "example.env", tmp_path)
    (tmp_path / ".env").write_text("MODEL_REGISTRY_URL=http://registry\n")
    return tmp_path


def prepare(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "deploy/prepare.sh", *arguments], capture_output=True, text=True, check=False, cwd="/"
    )


def made(checkout: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (checkout / "secrets").iterdir()}


def test_all_secrets_of_compose_are_made_and_no_other(checkout: Path) -> None:
    assert prepare(checkout).returncode == 0
    assert {one["file"] for one in COMPOSE["secrets"].values()} == {f"./secrets/{name}" for name in made(checkout)}
    used = set().union(*map(secrets_of, SERVICES))
    assert used == COMPOSE["secrets"].keys()


def test_passwords_are_random_and_stay(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "checkout"
    shutil.copytree(checkout, other)
    for place in (checkout, other):
        assert prepare(place).returncode == 0
    first = made(checkout)
    passwords = {place[name] for name in OWN_PASSWORDS for place in (first, made(other))}
    assert len(passwords) == 2 * len(OWN_PASSWORDS)
    assert min(map(len, passwords)) > 32
    assert prepare(checkout).returncode == 0
    assert made(checkout) == first


def test_containers_may_read_the_secrets_and_other_accounts_not(checkout: Path) -> None:
    prepare(checkout)
    assert stat.S_IMODE((checkout / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (checkout / "secrets").iterdir()} == {0o644}


def test_a_password_of_ones_own_is_in_all_that_is_made_of_it(checkout: Path) -> None:
    prepare(checkout)
    (checkout / "secrets/postgres_password").write_text("own-1")
    (checkout / "secrets/rabbitmq_password").write_text("own-2\n")
    assert prepare(checkout).returncode == 0
    secrets = made(checkout)
    assert secrets["database_url"] == "postgresql+asyncpg://rps_limiter:own-1@pgbouncer:6432/rps_limiter\n"
    assert secrets["migrations_database_url"] == "postgresql+asyncpg://rps_limiter:own-1@postgres/rps_limiter\n"
    assert secrets["rabbitmq_url"] == "amqp://rps_limiter:own-2@rabbitmq:5672/\n"
    assert secrets["rabbitmq_login"] == "default_user = rps_limiter\ndefault_pass = own-2\n"


@pytest.mark.parametrize("password", ["a@b", "a/b", "a b", "a%b"])
def test_a_password_that_would_break_a_url_is_refused_without_being_shown(checkout: Path, password: str) -> None:
    prepare(checkout)
    (checkout / "secrets/rabbitmq_password").write_text(password)
    done = prepare(checkout)
    assert done.returncode == 1
    assert "secrets/rabbitmq_password" in done.stderr
    assert password not in done.stderr


def test_the_token_comes_from_the_dotenv_file_or_else_stays(checkout: Path) -> None:
    prepare(checkout)
    assert made(checkout)["booking_service_token"].strip() == ""
    (checkout / "secrets/booking_service_token").write_text("by-hand\n")
    prepare(checkout)
    assert made(checkout)["booking_service_token"] == "by-hand\n"
    with (checkout / ".env").open("a") as file:
        file.write("BOOKING_SERVICE_TOKEN='from $dotenv'\n")
    prepare(checkout)
    assert made(checkout)["booking_service_token"] == "from $dotenv\n"


@pytest.mark.parametrize(("token", "then"), [("", "by-hand\n"), ("secret", "secret\n"), ("'secret'", "secret\n")])
def test_the_line_ends_of_windows_are_no_part_of_the_token(checkout: Path, token: str, then: str) -> None:
    prepare(checkout)
    (checkout / "secrets/booking_service_token").write_text("by-hand\n")
    (checkout / ".env").write_bytes(f"MODEL_REGISTRY_URL=http://registry\r\nBOOKING_SERVICE_TOKEN={token}\r\n".encode())
    assert prepare(checkout).returncode == 0
    assert (checkout / "secrets/booking_service_token").read_bytes().decode() == then


def test_a_calendar_without_quotes_which_compose_understands_keeps_no_token_back(checkout: Path) -> None:
    with (checkout / ".env").open("a") as file:
        file.write("RPS_CHECK_CRON=*/5 8-20 * * mon-fri\nBOOKING_SERVICE_TOKEN=secret\n")
    assert prepare(checkout).returncode == 0
    assert made(checkout)["booking_service_token"] == "secret\n"


def test_a_dotenv_file_that_a_shell_cannot_read_at_all_is_refused_in_words(checkout: Path) -> None:
    with (checkout / ".env").open("a") as file:
        file.write("POLICY_OVERRIDES=(\n")
    done = prepare(checkout)
    assert done.returncode == 1
    assert "a shell cannot read .env" in done.stderr


def test_without_a_dotenv_file_it_says_what_to_do(checkout: Path) -> None:
    (checkout / ".env").unlink()
    done = prepare(checkout)
    assert done.returncode == 1
    assert "cp example.env .env" in done.stderr
    assert not (checkout / "secrets").exists()


def test_make_down_ends_the_services_of_every_profile() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\ndown:")[1].split("\n\n")[0]
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert set(re.findall(r"--profile (\w+)", recipe)) == profiles


def test_the_demo_makes_its_own_dotenv_file_and_makes_it_again(checkout: Path) -> None:
    (checkout / ".env").unlink()
    assert prepare(checkout, "demo").returncode == 0
    first = (checkout / ".env").read_text()
    assert (ROOT / "deploy/demo.env").read_text() in first
    assert first.endswith("COMPOSE_PROFILES=demo\n")
    assert prepare(checkout, "demo").returncode == 0
    assert (checkout / ".env").read_text() == first


def test_the_demo_leaves_a_dotenv_file_of_ones_own_alone(checkout: Path) -> None:
    before = (checkout / ".env").read_text()
    done = prepare(checkout, "demo")
    assert done.returncode == 1
    assert "move it away" in done.stderr
    assert (checkout / ".env").read_text() == before


# --- the lock ---------------------------------------------------------------------------------------------------------


def pinned(text: str) -> dict[str, str]:
    """Versions by normalised name."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_the_lock_pins_what_requirements_txt_says_and_no_other() -> None:
    requirements = pinned((ROOT / "requirements.txt").read_text())
    assert len(requirements) > 20
    assert pinned((ROOT / "requirements.lock").read_text()) == requirements, "run `make lock`"


def test_everything_in_the_lock_has_hashes_and_no_index_is_named() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^[\w.-]+==.*(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+", text, re.MULTILINE)
    assert len(entries) == len(pinned(text))
    assert "://" not in text
    assert not re.search(r"^--(?!hash)", text, re.MULTILINE)
