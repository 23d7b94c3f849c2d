"""`make deployment-test`: the compose file with its demo profile, run for real, through failures, and taken down."""

import signal
import sys
import tempfile
import time
from pathlib import Path

from dev.deployment.base_images import install_podman, make_base_images
from dev.deployment.deployment import ROOT, Deployment, copy_checkout
from dev.deployment.engine import DeploymentFailed, Engine, docker, podman
from dev.deployment.steps import STEPS, Step

LOG_LINES = 15  # of each container, when a step failed
INTERRUPTED = 130  # the exit code of a program ended by Ctrl-C


def main() -> int:
    """Run all steps and take everything down; returns 0 if all went well, else 1."""
    began = time.monotonic()
    try:
        engine = docker() or _podman()
    except DeploymentFailed as error:
        print(f"deployment-test cannot begin: {error}")
        return 1
    with tempfile.TemporaryDirectory(prefix="rps-limiter-deployment-") as place:
        copy_checkout(Path(place))
        deployment = Deployment(engine, Path(place))
        good = _perform(deployment)
    total = time.monotonic() - began
    version = engine.call("--version").strip()
    print(f"deployment-test: {good} of {len(STEPS) + 1} steps in {total:.0f} s, by {version}")
    return 0 if good == len(STEPS) + 1 else 1


def _podman() -> Engine:
    began = time.monotonic()
    install_podman()
    engine = podman()
    make_base_images(engine, ROOT / "Dockerfile", ROOT / "docker-compose.yaml")
    print(f"no Docker here: base images from Debian packages, {time.monotonic() - began:.0f} s", flush=True)
    return engine


def _perform(deployment: Deployment) -> int:
    """The number of steps that went well: all up to the first that failed, and taking down, which always comes."""
    good = 0
    try:
        for step in STEPS:
            if not _succeeds(step, deployment):
                _show_logs(deployment)
                break
            good += 1
    finally:
        good += _succeeds(taken_down, deployment)
    return good


def taken_down(deployment: Deployment) -> str:
    """Remove everything, volumes too."""
    deployment.down()
    return "no container, network or volume left"


def _succeeds(step: Step, deployment: Deployment) -> bool:
    """Whether the step went well; prints its line."""
    began, name = time.monotonic(), step.__name__.replace("_", " ")
    try:
        mark, text = "ok", step(deployment)
    except DeploymentFailed as error:
        mark, text = "FAILED", str(error)
    print(f"  {mark:6} {name:17} {time.monotonic() - began:6.1f} s  {text}", flush=True)
    return mark == "ok"


def _show_logs(deployment: Deployment) -> None:
    for container in deployment.engine.containers():
        print(f"--- {container}")
        print(deployment.engine.call("logs", f"--tail={LOG_LINES}", container), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
