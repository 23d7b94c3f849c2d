"""What is done to the deployment, step by step; each step returns what it saw, or raises DeploymentFailed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

from dev.deployment.deployment import Deployment, wait_for
from dev.deployment.engine import DeploymentFailed

PERIODIC = {"rps_check", "idle_warning", "idle_enforce", "saga_poll"}  # the others run only when there is work
TAKEOVER = 90.0  # seconds: the locks of the dead replica are freed, and each job is due once
RECOVERY = 120.0  # seconds for RabbitMQ to start, and for everything to be connected again
Step = Callable[[Deployment], str]


def images(deployment: Deployment) -> str:
    """Build the images."""
    deployment.prepare()
    deployment.build()
    return "built"


def start(deployment: Deployment) -> str:
    """Bring everything up."""
    deployment.up()
    unhealthy = [name for name in deployment.staying if not deployment.engine.is_healthy(name)]
    if unhealthy or len(deployment.engine.containers("limiter")) != 2:
        raise DeploymentFailed(f"not healthy: {unhealthy}, of {deployment.engine.containers()}")
    return f"{len(deployment.staying)} containers healthy, two replicas among them"


def hardened(deployment: Deployment) -> str:
    """No container has a capability, may gain one, writes to its image, or shows a secret in its configuration."""
    secrets = {path.read_text().strip() for path in (deployment.directory / "secrets").iterdir()}
    # The stand-in platform's token is in its code, and no secret.
    secrets -= {"", (deployment.directory / "secrets/booking_service_token").read_text().strip()}
    for name in deployment.staying:
        lines = deployment.engine.call("exec", name, "cat", "/proc/self/status").splitlines()
        rights = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if int(rights["CapEff"], 16) or int(rights["CapBnd"], 16) or rights["NoNewPrivs"] != "1":
            raise DeploymentFailed(f"{name} has capabilities, or may gain them")
        if deployment.engine.succeeds("exec", name, "touch", "/var/lib/written"):
            raise DeploymentFailed(f"{name} can write to its image")
        shown = deployment.engine.call("inspect", name)
        if any(secret in shown for secret in secrets):
            raise DeploymentFailed(f"{name}: its configuration shows a secret")
    return f"{len(deployment.staying)} containers without capabilities, with read-only images and hidden secrets"


def job(deployment: Deployment) -> str:
    """Run a job by hand, from inside a replica."""
    return _run_job(deployment, "rps_check")


def _run_job(deployment: Deployment, name: str) -> str:
    container = deployment.engine.containers("limiter")[0]
    reply = json.loads(deployment.python(container, "-m", "limiter.ctl", "run", name))
    if (reply["outcome"], reply["job"]) != ("completed", name):
        raise DeploymentFailed(f"the reply to the control message: {reply}")
    return f"{name}: {reply['outcome']}"


def replica_killed(deployment: Deployment) -> str:
    """Kill the replica that ran last; the other must run every periodic job, and the killed one come back."""
    one, other = deployment.engine.containers("limiter")
    status = deployment.status(one)
    last = max((row for row in status["jobs"] if row["started_at"]), key=lambda row: row["started_at"])
    victim, survivor = (one, other) if last["replica_id"] == status["replica"] else (other, one)
    identity = deployment.status(survivor)["replica"]
    taken: set[str] = set()

    def takes_over() -> bool:
        for row in deployment.status(survivor)["jobs"]:
            begun = row["started_at"] and datetime.fromisoformat(row["started_at"]) > killed_at
            if begun and row["state"] == "completed" and row["replica_id"] == identity:
                taken.add(row["name"])
        return taken >= PERIODIC

    killed_at = datetime.now(UTC)
    deployment.engine.call("kill", "--signal=KILL", victim)
    seconds = wait_for(f"{survivor} runs {', '.join(sorted(PERIODIC))}", takes_over, TAKEOVER)
    deployment.engine.call("start", victim)
    wait_for(f"{victim} is ready again", lambda: _is_ready(deployment, victim), RECOVERY)
    return f"{victim}; {survivor} ran all {len(PERIODIC)} periodic jobs within {seconds:.0f} s"


def broker_restarted(deployment: Deployment) -> str:
    """Restart RabbitMQ; every health check must be green again, and a control message be answered."""
    (broker,) = deployment.engine.containers("rabbitmq")
    deployment.engine.call("restart", broker)
    replicas = deployment.engine.containers("limiter")

    def recovered() -> bool:
        return all(map(deployment.engine.is_healthy, deployment.staying)) and all(
            _is_ready(deployment, name) for name in replicas
        )

    seconds = wait_for("every health check is green, both replicas are ready", recovered, RECOVERY)
    return f"all green after {seconds:.0f} s; {_run_job(deployment, 'idle_warning')}"


def _is_ready(deployment: Deployment, replica: str) -> bool:
    try:
        deployment.read(replica, "/health/readiness")
    except DeploymentFailed:
        return False
    return True


def migrated_again(deployment: Deployment) -> str:
    """Migrate once more; the row of the version must not be written again."""
    before = _schema_version(deployment)
    deployment.compose("run", "--rm", "--no-deps", "-T", "migrate")
    if _schema_version(deployment) != before:
        raise DeploymentFailed(f"the migration changed something: {before}, then {_schema_version(deployment)}")
    return f"nothing to do at {before.split('|')[1]}"


def _schema_version(deployment: Deployment) -> str:
    """The version, with the transaction that wrote it."""
    (postgres,) = deployment.engine.containers("postgres")
    query = "SELECT xmin, version_num FROM rps_limiter.alembic_version"
    login = ("--username=rps_limiter", "--dbname=rps_limiter")
    return deployment.engine.call(
        "exec", postgres, "psql", *login, "--tuples-only", "--no-align", "--command", query
    ).strip()


def status_page(deployment: Deployment) -> str:
    """Read the status page; it must show the models of the sample fleet."""
    replica = deployment.engine.containers("limiter")[0]
    models = deployment.status(replica)["models"]
    page = deployment.read(replica, "/")
    missing = [row["model_name"] for row in models if row["model_name"] not in page]
    if not models or missing:
        raise DeploymentFailed(f"the status page does not show {missing or 'any model'}")
    return f"{len(models)} models, {len(page)} bytes"


STEPS: tuple[Step, ...] = (images, start, hardened, job, replica_killed, broker_restarted, migrated_again, status_page)
