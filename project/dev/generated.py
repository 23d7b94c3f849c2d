"""Files that are made of others: `make generated` writes them, and a test keeps them equal to what they are made of."""

from collections.abc import Callable
from pathlib import Path

import yaml

from dev.contracts import asyncapi

ROOT = Path(__file__).parents[2]
HEADER = "# Made of {source}; `make generated` writes it anew.\n"


def prometheus_rule() -> str:
    """The alerts as the Prometheus operator takes them."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "rps-limiter", "labels": {"app.kubernetes.io/name": "rps-limiter"}},
        "spec": {"groups": rules["groups"]},
    }
    return yaml.safe_dump(rule, sort_keys=False, allow_unicode=True, width=120)


FILES: dict[str, tuple[str, Callable[[], str]]] = {
    "docs/asyncapi.yaml": ("the service's code by dev/contracts.py", asyncapi),
    "deploy/kubernetes/prometheus-rule.yaml": ("deploy/prometheus/rules.yml", prometheus_rule),
}


def text(name: str) -> str:
    """What the file should say."""
    source, make = FILES[name]
    return HEADER.format(source=source) + make()


def main() -> None:
    """Write every file."""
    for name in FILES:
        (ROOT / name).write_text(text(name))
        print(name)


if __name__ == "__main__":
    main()
