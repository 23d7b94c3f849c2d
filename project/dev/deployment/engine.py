"""What runs the containers: Docker where there is one, else podman, with all that is its own in a cache directory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rps-limiter/deployment"
PROJECT = "rps-limiter-test"  # the compose project: a deployment that runs here already is another one
SHOWN = 2000  # characters of a failed command's output

# Images under borrowed names must not get among the machine's own; limits and cgroups are what a sandbox allows too.
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/storage"\nrunroot = "{0}/run"\n'
CONTAINERS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""


class DeploymentFailed(Exception):
    """A command failed, or what was waited for did not come; the text says which and why."""


def run(*command: str, variables: dict[str, str] | None = None, directory: Path | None = None) -> str:
    """The command's output; raises DeploymentFailed with its end if the command fails."""
    done = subprocess.run(
        command,
        env=os.environ | (variables or {}),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DeploymentFailed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-SHOWN:]}")
    return done.stdout


@dataclass(frozen=True)
class Engine:
    """`docker` or `podman`, and the compose that goes with it."""

    program: str
    compose: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def is_podman(self) -> bool:
        return self.program == "podman"

    def call(self, *arguments: str) -> str:
        """Run the program; returns its output, raises DeploymentFailed."""
        return run(self.program, *arguments, variables=self.variables)

    def succeeds(self, *arguments: str) -> bool:
        """Whether the program ends with 0."""
        try:
            self.call(*arguments)
        except DeploymentFailed:
            return False
        return True

    def containers(self, service: str = "") -> list[str]:
        """The names of all containers of the project, or of one service of it, ended ones too."""
        labels = {"project": PROJECT} | ({"service": service} if service else {})
        filters = [f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        return sorted(self.call("ps", "--all", "--format={{.Names}}", *filters).split())

    def is_healthy(self, container: str) -> bool:
        """Whether the container runs, and its health check succeeds; podman runs the check for us now."""
        if self.is_podman:
            return self.succeeds("healthcheck", "run", container)
        return self.call("inspect", "--format={{.State.Health.Status}}", container).strip() == "healthy"

    def left(self) -> list[str]:
        """What is still there of the project: containers, volumes, networks."""
        names = self.containers()
        for kind in ("volume", "network"):
            names += self.call(kind, "ls", "--format={{.Name}}", f"--filter=name={PROJECT}_").split()
        return names


def docker() -> Engine | None:
    """Docker with compose, if its daemon answers."""
    engine = Engine("docker", ("docker", "compose"))
    there = shutil.which("docker") and engine.succeeds("compose", "version") and engine.succeeds("info")
    return engine if there else None


def podman() -> Engine:
    """Podman, which keeps its images and containers in our cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    files: Iterable[tuple[str, str]] = (("storage.conf", STORAGE.format(CACHE)), ("containers.conf", CONTAINERS))
    for name, text in files:
        (CACHE / name).write_text(text)
    variables = {
        "CONTAINERS_STORAGE_CONF": str(CACHE / "storage.conf"),
        "CONTAINERS_CONF": str(CACHE / "containers.conf"),
        "BUILDAH_FORMAT": "docker",  # the other format knows no health checks
    }
    # Docker mounts nothing that is writable into a read-only container unless compose says so.
    strict = "--podman-run-args=--read-only-tmpfs=false"
    program = str(Path(sys.executable).parent / "podman-compose")
    return Engine("podman", (program, strict), variables)
