"""Images under the names that the Dockerfile and the compose file ask for, made from Debian packages."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dev.deployment.engine import DeploymentFailed, Engine, run

IMAGES = Path(__file__).parent / "images"
# What a machine needs to reach its package index goes with it into these images, which never leave the machine.
OF_THE_MACHINE = ("etc/ssl/certs/ca-certificates.crt", "etc/apt/apt.conf.d")
PYTHON = ("ca-certificates", "python3-pip", "python3.11", "python3.11-venv")
NEEDED = {
    "podman": "podman", "runc": "runc", "iptables": "iptables", "debootstrap": "debootstrap",
    "/usr/lib/podman/netavark": "netavark", "/usr/lib/podman/aardvark-dns": "aardvark-dns",
}  # fmt: skip


def install_podman() -> None:
    """Install what podman needs; raises DeploymentFailed if that takes rights that we do not have."""
    if os.geteuid() != 0:
        raise DeploymentFailed("without Docker this makes base images, which only root can do: run it as root")
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *missing)


def make_base_images(engine: Engine, dockerfile: Path, compose: Path) -> None:
    """Make them, where they are not there from the last time, and name them as the two files do."""
    _debian(engine, "bookworm", PYTHON)
    _debian(engine, "trixie", ("ca-certificates",))
    sources = {name: _server(engine, name) for name in ("postgres", "pgbouncer", "rabbitmq")}
    sources["python"] = "localhost/debian:bookworm"
    for image in _asked_for(dockerfile, compose):
        source = sources.get(image.split(":")[0].split("/")[-1])
        if source:
            host = "docker.io" if "/" in image else "docker.io/library"
            engine.call("tag", source, f"{host}/{image}")


def _asked_for(dockerfile: Path, compose: Path) -> Iterator[str]:
    yield from re.findall(r"^FROM (\S+:\S+)", dockerfile.read_text(), re.MULTILINE)
    yield from re.findall(r"^ +image: (\S+)", compose.read_text(), re.MULTILINE)


def _debian(engine: Engine, suite: str, packages: tuple[str, ...]) -> None:
    """A minimal Debian as an image."""
    name = f"localhost/debian:{suite}"
    if engine.succeeds("image", "exists", name):
        return
    with tempfile.TemporaryDirectory(prefix="rps-limiter-base-") as directory:
        root = Path(directory, "root")
        run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(root))
        for path in OF_THE_MACHINE:
            run("cp", "--recursive", "--no-target-directory", f"/{path}", str(root / path))
        if (root / "usr/bin/python3.11").exists():
            (root / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
        archive = Path(directory, "root.tar")
        run("tar", "--directory", str(root), "--create", "--file", str(archive), ".")
        engine.call("import", str(archive), name)


def _server(engine: Engine, name: str) -> str:
    """One server's image; the steps that did not change come from the last time."""
    built = f"localhost/{name}:debian"
    options = ("--network", "host", "--target", name, "--tag", built)
    engine.call("build", *options, "--file", str(IMAGES / "Containerfile"), str(IMAGES))
    return built
