"""The document of our contracts says what the code does, and its examples are what it says."""

import re
from typing import Any
from uuid import UUID

import pytest
from jsonschema import ValidationError

from dev import generated
from limiter.api.announcements import Deployed
from limiter.api.handlers import HANDLERS
from limiter.api.messages import CONTROL_MESSAGE
from limiter.config.settings import Settings
from limiter.domain.idle_spell import CLOSING_REASONS
from tests.contracts import DOCUMENT, MESSAGES, ROOT, check_event, validator
from tests.integration.clients.contract import OPERATIONS

EXAMPLES = [(name, example) for name, message in MESSAGES.items() for example in message["examples"]]
OPERATIONS_PAGE = (ROOT / "docs/operations.md").read_text()
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}


def payloads(message: str) -> dict[str, dict[str, Any]]:
    return {example["name"]: example["payload"] for example in MESSAGES[message]["examples"]}


@pytest.mark.parametrize("name", generated.FILES)
def test_a_generated_file_is_what_it_is_made_of(name: str) -> None:
    assert (ROOT / name).read_text() == generated.text(name), "run `make generated`"


@pytest.mark.parametrize(("message", "example"), EXAMPLES, ids=lambda one: one if isinstance(one, str) else one["name"])
def test_an_example_is_as_its_schema_says(message: str, example: dict[str, Any]) -> None:
    # What is read from others may have more fields than are looked at.
    validator(message, closed=message != "Deployed").validate(example["payload"])


def test_every_command_has_an_example_that_is_understood() -> None:
    understood = [CONTROL_MESSAGE.validate_python(body) for body in payloads("Control").values()]
    assert sorted(request.command for request in understood) == sorted(HANDLERS)


def test_the_announcement_of_the_example_is_understood() -> None:
    for body in payloads("Deployed").values():
        assert Deployed.model_validate(body).started


def test_every_stage_has_an_example() -> None:
    stages = DOCUMENT["components"]["schemas"]["IdleReservation"]["properties"]["stage"]["enum"]
    assert {body["reservation"]["stage"] for body in payloads("NoUse").values()} == set(stages)


def test_every_word_of_a_withdrawal_is_in_the_document() -> None:
    for word in CLOSING_REASONS.values():
        body = payloads("NoUse")["withdrawn"]
        check_event(body | {"reservation": body["reservation"] | {"closing_reason": word}})


def test_an_event_with_a_field_too_many_or_too_few_or_wrong_is_none_of_the_document() -> None:
    body = payloads("NoUse")["warning"]
    slot = body["reservation"]["slots_at_risk"][0]
    for change in (
        {"stage": "lost"},
        {"more": 1},
        {"idle_since": "2026-03-02T10:00:00"},
        {"slots_at_risk": [slot | {"id": 1}]},
    ):
        with pytest.raises(ValidationError):
            check_event(body | {"reservation": body["reservation"] | change})
    with pytest.raises(ValidationError):
        check_event({name: value for name, value in body.items() if name != "user"})


def test_the_channels_are_those_of_the_default_settings() -> None:
    channels = DOCUMENT["channels"]
    amqp = {name: channel["bindings"]["amqp"] for name, channel in channels.items()}
    assert amqp["Control"]["queue"]["name"] == DEFAULTS["control_queue"]
    assert amqp["Deployed"]["queue"]["name"] == DEFAULTS["deployed_queue"]
    assert {amqp[name]["exchange"]["name"] for name in ("NoUse", "Started")} == {DEFAULTS["notifier_exchange"]}
    assert channels["NoUse"]["address"] == DEFAULTS["notifier_no_use_routing_key"]
    assert {channels[name]["address"] for name in ("Deployed", "Started")} == {
        DEFAULTS["notifier_deployed_routing_key"]
    }


def test_no_secret_and_no_address_of_a_machine_is_in_the_document() -> None:
    assert DOCUMENT["servers"]["development"]["host"] == "rabbitmq:5672"
    assert "://" not in (ROOT / "docs/asyncapi.yaml").read_text()


def test_every_reference_leads_somewhere() -> None:
    references = set(re.findall(r"\$ref: '#/([^']+)'", (ROOT / "docs/asyncapi.yaml").read_text()))
    assert references
    for reference in references:
        place: Any = DOCUMENT
        for part in reference.split("/"):
            place = place[part]


def test_the_page_names_each_operation_that_is_called_and_no_other() -> None:
    page = (ROOT / "docs/contracts.md").read_text()
    named = re.findall(r"^\| `(GET|POST|DELETE) ([^`]+)`", page, re.MULTILINE)
    called = {(method, path) for method, path in OPERATIONS if "entrypoint" not in path}

    def fits(method: str, path: str) -> set[tuple[str, str]]:
        example = re.sub(r"\{[^}]+\}", str(UUID(int=1)), path)
        return {one for one in called if one[0] == method and re.fullmatch(one[1], f"/{service(example)}{example}")}

    def service(path: str) -> str:
        return {"/v1": "dispatcher", "/v2": "registry", "/ap": "booking"}[path[:3]]

    assert all(len(fits(*one)) == 1 for one in named)
    assert set[tuple[str, str]]().union(*(fits(*one) for one in named)) == called


def test_the_page_names_settings_and_errors_that_exist() -> None:
    page = (ROOT / "docs/contracts.md").read_text()
    settings = set(re.findall(r"`<?([A-Z]+(?:_[A-Z]+)+)[^`]*`", page))
    assert settings <= {name.upper() for name in Settings.model_fields}
    alarms = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", page)) & {*re.findall(r"`([a-z_]+)`", OPERATIONS_PAGE)}
    assert {"event_unroutable", "announcement_rejected", "address_unknown", "rabbitmq_refused"} <= alarms
