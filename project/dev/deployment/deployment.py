"""The deployment under test: a copy of the checkout, started as its own compose project beside whatever runs here."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from dev.deployment.engine import PROJECT, DeploymentFailed, Engine, run
from dev.servers.processes import free_port

ROOT = Path(__file__).parents[3]
POLL = 0.5  # seconds between two checks of what is waited for
START = 120.0  # seconds for one service to be healthy
PROFILE = "demo"


def copy_checkout(to: Path) -> None:
    """Copy what git has or would add: the compose file then finds no .env, secrets or volumes of this checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def wait_for(what: str, condition: Callable[[], object], seconds: float) -> float:
    """Wait until the condition holds; returns the seconds it took, raises DeploymentFailed after `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise DeploymentFailed(f"not within {seconds:g} s: {what}")
        time.sleep(POLL)
    return time.monotonic() - began


@dataclass(frozen=True)
class Deployment:
    """The compose file's services with the profile demo."""

    engine: Engine
    directory: Path
    variables: dict[str, str] = field(default_factory=lambda: {"RABBITMQ_PAGES_PORT": str(free_port())})

    @property
    def services(self) -> dict[str, Any]:
        """The compose file's services that the profile starts."""
        services = yaml.safe_load((self.directory / "docker-compose.yaml").read_text())["services"]
        return {name: one for name, one in services.items() if PROFILE in one.get("profiles", [PROFILE])}

    @property
    def staying(self) -> list[str]:
        """The containers that are meant to run on."""
        names = [name for name, service in self.services.items() if service["restart"] != "no"]
        return [container for name in names for container in self.engine.containers(name)]

    @property
    def _command(self) -> tuple[str, ...]:
        return (*self.engine.compose, "--project-name", PROJECT, "--profile", PROFILE)

    def compose(self, *arguments: str) -> str:
        """Run compose on the copy; raises DeploymentFailed."""
        return run(
            *self._command, *arguments, variables=self.engine.variables | self.variables, directory=self.directory
        )

    def prepare(self) -> None:
        """Make .env and secrets/, and take down what a test that was killed has left."""
        run("deploy/prepare.sh", PROFILE, directory=self.directory)
        if self.engine.left():
            self.down()

    def build(self) -> None:
        """Build the images, one after the other: podman-compose would build stages that they share twice at once."""
        for name in (name for name, service in self.services.items() if "build" in service):
            self.compose("build", name)

    def up(self) -> None:
        """Start everything, and wait until it is healthy."""
        if not self.engine.is_podman:
            self.compose("up", "--detach", "--wait")
            return
        # Older podman cannot wait for health by itself: the services in the order in which they wait for each other.
        waits = {name: service.get("depends_on", {}) for name, service in self.services.items()}
        for name in TopologicalSorter(waits).static_order():
            replicas = self.services[name].get("deploy", {}).get("replicas", 1)
            self.compose("up", "--detach", "--no-deps", "--scale", f"{name}={replicas}", name)
            self._reached(name)

    def _reached(self, service: str) -> None:
        """Wait until the service is where others wait for it: ended well, or healthy."""
        for container in self.engine.containers(service):
            if self.services[service]["restart"] == "no":
                code = self.engine.call("wait", container).strip()
                if code != "0":
                    raise DeploymentFailed(f"{container} ended with {code}")
            else:
                wait_for(f"{container} is healthy", partial(self.engine.is_healthy, container), START)

    def down(self) -> None:
        """Remove containers, networks and volumes; raises DeploymentFailed if any is left."""
        # podman-compose knows only the first replica of a service.
        if self.engine.is_podman and (containers := self.engine.containers()):
            self.engine.call("rm", "--force", *containers)
        self.compose("down", "--volumes")
        if left := self.engine.left():
            raise DeploymentFailed(f"still there: {', '.join(left)}")

    def python(self, container: str, *arguments: str) -> str:
        """What Python prints inside the container."""
        return self.engine.call("exec", container, "python", *arguments)

    def read(self, container: str, path: str) -> str:
        """The body of a page of the container's own HTTP; raises DeploymentFailed unless it answers 200."""
        url = f"http://127.0.0.1:8080{path}"
        code = f"import urllib.request as http; print(http.urlopen('{url}', timeout=10).read().decode())"
        return self.python(container, "-c", code)

    def status(self, container: str) -> dict[str, Any]:
        """The status as this replica tells it."""
        status: dict[str, Any] = json.loads(self.read(container, "/status"))
        return status
