"""The contracts' rules for requests, written down a second time: the stand-in checks them too, but less strictly."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dev.fake_platform.platform import Exchange

INTEGERS: dict[str, dict[str, tuple[int | None, int | None]]] = {
    "registry": {"offset": (0, None), "limit": (1, 100)},
    "booking": {
        "page": (1, None),
        "page_size": (1, 1000),
        "min_start_time": (None, None),
        "max_start_time": (None, None),
        "min_end_time": (None, None),
        "max_end_time": (None, None),
    },
}
WORDS = {"booking": {"sort_by": {"start_time"}, "sort_order": {"asc", "desc"}}}
OPERATIONS = (
    ("GET", r"/registry/v2/models/running/find-by"),
    ("GET", r"/booking/api/v1/reservations"),
    ("GET", r"/booking/api/v1/reservations/[^/]+"),
    ("DELETE", r"/booking/api/v1/reservations/[^/]+"),
    ("DELETE", r"/booking/api/v1/reservations/[^/]+/slot-usage/[^/]+"),
    ("POST", r"/dispatcher/v1/command/(scale|uninstall)"),
    ("GET", r"/dispatcher/v1/saga/[0-9a-f-]{36}"),
    ("GET", r"/entrypoint/\d+/metrics"),
)


def breach(exchange: Exchange) -> str | None:
    """What is wrong with a request, None if nothing is."""
    what = f"{exchange.method} {exchange.path} {exchange.query} {exchange.body}"
    if not any(exchange.method == method and re.fullmatch(path, exchange.path) for method, path in OPERATIONS):
        return f"{what}: no such operation"
    if not all(_query_fits(exchange.service, name, value) for name, value in exchange.query.items()):
        return f"{what}: the query"
    if not _body_fits(exchange):
        return f"{what}: the body"
    # One that was sent without a token must have been turned away.
    if exchange.method == "DELETE" and not exchange.authorization and exchange.status != 401:
        return f"{what}: no bearer token"
    return None


def _query_fits(service: str, name: str, value: str) -> bool:
    if name in WORDS.get(service, {}):
        return value in WORDS[service][name]
    if name not in INTEGERS.get(service, {}) or re.fullmatch(r"-?\d+", value) is None:
        return False
    low, high = INTEGERS[service][name]
    return (low is None or int(value) >= low) and (high is None or int(value) <= high)


def _body_fits(exchange: Exchange) -> bool:
    if exchange.method != "POST":
        return exchange.body is None
    if not isinstance(exchange.body, dict):
        return False
    return _command_fits(exchange.path.endswith("scale"), exchange.body)


def _command_fits(scale: bool, body: Mapping[str, Any]) -> bool:
    if set(body) != ({"modelId", "replicas"} if scale else {"modelId"}):
        return False
    if not isinstance(body["modelId"], str) or str(UUID(body["modelId"])) != body["modelId"]:
        return False
    return not scale or (type(body["replicas"]) is int and body["replicas"] > 0)
