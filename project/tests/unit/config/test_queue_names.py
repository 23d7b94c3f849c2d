"""Which names of queues, of the exchange and of keys the settings refuse."""

import pytest

from tests.unit.config.test_settings import refused, settings

TOO_LONG = "q" * 251


@pytest.mark.parametrize(
    ("control", "deployed"), [("one", "one"), ("one", "one.dead"), ("one.dead", "one"), ("x", "x.dead")]
)
def test_two_queues_of_one_name_are_refused_and_both_variables_named(control: str, deployed: str) -> None:
    text = refused(CONTROL_QUEUE=control, DEPLOYED_QUEUE=deployed)
    assert text.startswith(f"CONTROL_QUEUE='{control}' and DEPLOYED_QUEUE='{deployed}': ")
    assert "each must be a queue of its own" in text


def test_a_queue_may_have_the_name_of_another_one_that_is_given_away() -> None:
    assert settings(CONTROL_QUEUE="rps_limiter.models_deployed", DEPLOYED_QUEUE="rps_limiter.control")


def test_a_queue_whose_default_name_is_taken_is_refused() -> None:
    assert "DEPLOYED_QUEUE='rps_limiter.models_deployed'" in refused(CONTROL_QUEUE="rps_limiter.models_deployed")


@pytest.mark.parametrize("name", ["CONTROL_QUEUE", "DEPLOYED_QUEUE"])
@pytest.mark.parametrize("value", [TOO_LONG, "q" * 255, "ä" * 126])
def test_a_queue_name_that_is_too_long_with_its_dead_letters_is_refused(name: str, value: str) -> None:
    text = refused(**{name: value})
    assert text == f"{name}='{value}': must have at most 250 bytes: .dead is added to it, and RabbitMQ takes 255"


@pytest.mark.parametrize("value", ["q" * 250, "ä" * 125])
def test_a_queue_name_may_be_as_long_as_rabbitmq_takes_with_its_dead_letters(value: str) -> None:
    assert settings(CONTROL_QUEUE=value).control_queue == value


@pytest.mark.parametrize("name", ["NOTIFIER_EXCHANGE", "NOTIFIER_DEPLOYED_ROUTING_KEY", "NOTIFIER_NO_USE_ROUTING_KEY"])
def test_other_names_have_as_many_bytes_as_rabbitmq_takes(name: str) -> None:
    assert settings(**{name: "q" * 255})
    assert settings(**{name: "ä" * 127})
    text = refused(**{name: "ä" * 128})
    assert text == f"{name}='{'ä' * 128}': must have at most 255 bytes: RabbitMQ takes no more"


MANY = "#." * 60  # would take years if each of them were tried at each word


@pytest.mark.parametrize(
    "key",
    [
        "reservation.no_use",
        "#",
        "*.no_use",
        "reservation.#",
        "#.no_use.#",
        "*.*",
        "reservation.no_use.#",
        MANY + "no_use",
    ],
)
def test_a_deployed_key_that_would_bring_our_own_warnings_back_to_us_is_refused(key: str) -> None:
    assert refused(NOTIFIER_DEPLOYED_ROUTING_KEY=key) == (
        f"NOTIFIER_DEPLOYED_ROUTING_KEY='{key}' must not match NOTIFIER_NO_USE_ROUTING_KEY='reservation.no_use': "
        "a warning that only DEPLOYED_QUEUE gets would count as delivered"
    )


@pytest.mark.parametrize(
    "key", ["*", "models.#", "reservation.*.#.deployed", "reservation.no_use.*", "no_use", MANY + "x"]
)
def test_a_deployed_key_may_have_wildcards_that_our_warnings_do_not_match(key: str) -> None:
    assert settings(NOTIFIER_DEPLOYED_ROUTING_KEY=key).notifier_deployed_routing_key == key


@pytest.mark.parametrize("key", ["models.deployed.*", "models.#"])
def test_a_deployed_key_that_is_published_with_has_no_wildcards(key: str) -> None:
    text = refused(NOTIFIER_DEPLOYED_ROUTING_KEY=key, DEPLOYED_REMINDER_ENABLED="true")
    assert text.startswith(f"NOTIFIER_DEPLOYED_ROUTING_KEY='{key}' must be a key without * and #: ")
