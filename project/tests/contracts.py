"""Holds messages against docs/asyncapi.yaml; a field that it does not name is an error too."""

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, FormatChecker

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text())
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]
MESSAGE_OF = {"reservation.no_use": "NoUse", "models.deployed.successfully": "Started"}
FORMATS = FormatChecker(("uuid",))


@FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).utcoffset() is not None


def _closed(schema: Any) -> Any:
    """The schema, which refuses what it does not name."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    return {"additionalProperties": False} | closed if "properties" in schema else closed


def validator(message: str, *, closed: bool = True) -> Draft7Validator:
    """What checks the body of this message; AsyncAPI's schemas are those of draft 7."""
    components = DOCUMENT["components"]
    schemas = _closed(components["schemas"]) if closed else components["schemas"]
    root = MESSAGES[message]["payload"] | {"components": {"schemas": schemas}}
    return Draft7Validator(root, format_checker=FORMATS)


_OF_EVENTS = {kind: validator(message) for kind, message in MESSAGE_OF.items()}
_OF_REPLIES = validator("Reply")


def check_event(body: dict[str, Any]) -> None:
    """Raise jsonschema's ValidationError if this is no event of the document."""
    _OF_EVENTS[body["event_type"]].validate(body)


def check_reply(body: dict[str, Any]) -> None:
    """Raise jsonschema's ValidationError if this is no reply of the document."""
    _OF_REPLIES.validate(body)
