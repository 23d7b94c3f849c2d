"""Values that would only fail, or mislead, once a replica runs: each stops the start by variable, value and rule."""

import pytest

from tests.unit.config.test_settings import refused, settings

SPACE = "must have no space before or behind it, or in its host; several URLs are separated by commas"
OPTION = "asyncpg takes no such option behind its ?; a ? in a password must be written as %3F"
START = "postgresql+asyncpg://u:s3cret@h/d"


@pytest.mark.parametrize("url", ["http://x ", " http://x", "http://x/a ", "http://x y/", "http://x\N{NO-BREAK SPACE}/"])
def test_a_url_with_a_space_where_none_can_be(url: str) -> None:
    assert refused(MODEL_REGISTRY_URL=url) == f"MODEL_REGISTRY_URL={url!r}: {SPACE}"


def test_a_space_that_the_client_can_send() -> None:
    assert settings(MODEL_REGISTRY_URL="http://x/our models").model_registry_url == "http://x/our models"
    page = "http://x/metrics?of=our models"
    assert settings(ENTRYPOINT_METRICS_URLS=page).entrypoint_metrics_urls == (page,)


def test_urls_that_are_separated_by_spaces() -> None:
    urls = "http://one/metrics http://two/metrics"
    assert refused(ENTRYPOINT_METRICS_URLS=urls) == f"ENTRYPOINT_METRICS_URLS [0]={urls!r}: {SPACE}"
    assert len(settings(ENTRYPOINT_METRICS_URLS=urls.replace(" ", " , ")).entrypoint_metrics_urls) == 2


@pytest.mark.parametrize("token", ["Bearer s3cret", "bearer  s3cret"])
def test_a_token_with_the_word_that_is_put_before_it(token: str) -> None:
    rule = "must stand without the word Bearer, which is put before it"
    assert refused(BOOKING_SERVICE_TOKEN=token) == f"BOOKING_SERVICE_TOKEN=(hidden): {rule}"
    assert settings(BOOKING_SERVICE_TOKEN="Bearers3cret")


@pytest.mark.parametrize("around", ["'{}'", '"{}"', " {}", "{} "])
@pytest.mark.parametrize(
    "name",
    [
        "NOTIFIER_EXCHANGE",
        "NOTIFIER_DEPLOYED_ROUTING_KEY",
        "NOTIFIER_NO_USE_ROUTING_KEY",
        "CONTROL_QUEUE",
        "DEPLOYED_QUEUE",
    ],
)
def test_a_name_with_quotes_or_spaces_around_it_which_rabbitmq_would_take(name: str, around: str) -> None:
    """`docker run --env-file` hands quotes on: under another key no address would ever be learned."""
    value = around.format("a.b")
    assert refused(**{name: value}) == f"{name}={value!r}: must have no space and no quotes around it"
    assert settings(**{name: "a 'b' c"})


@pytest.mark.parametrize("token", ["'s3cret'", '"s3cret"'])
def test_a_token_with_quotes_around_it(token: str) -> None:
    assert (
        refused(BOOKING_SERVICE_TOKEN=token)
        == "BOOKING_SERVICE_TOKEN=(hidden): must have no space and no quotes around it"
    )
    assert settings(BOOKING_SERVICE_TOKEN=" s3cret ").booking_service_token.get_secret_value() == "s3cret"


@pytest.mark.parametrize(
    ("template", "sign"),
    [
        ("'{user_name}@example.org'", "'"),
        ('"{user_name}@example.org"', '"'),
        ("mailto:{user_name}@example.org", ":"),
        ("{user_name}.{user_id}@example.org", "{"),
        ("<{user_name}@example.org>", "<"),
    ],
)
def test_a_template_of_addresses_at_which_nobody_gets_a_warning(template: str, sign: str) -> None:
    why = f"an address has no {sign} in it"
    assert refused(USER_EMAIL_TEMPLATE=template) == f"USER_EMAIL_TEMPLATE={template!r}: {why}"
    assert settings(USER_EMAIL_TEMPLATE="x+{user_name}_y@{user_name}.example.org")


@pytest.mark.parametrize(
    "query", ["connect_timeout=4", "ssl=require&options", "application_name=", "server_settings=x"]
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATIONS_DATABASE_URL"])
def test_an_option_that_the_driver_does_not_have(name: str, query: str) -> None:
    assert refused(**{name: f"{START}?{query}"}) == f"{name}=(hidden): {OPTION}"


def test_options_that_the_driver_has() -> None:
    both = "prepared_statement_cache_size=0&statement_cache_size=0"  # as many guides to pgbouncer have it
    options = f"ssl=require&host=/run/postgresql&{both}&target_session_attrs=any&command_timeout=60&timeout=5"
    assert settings(DATABASE_URL=f"{START}?{options}", MIGRATIONS_DATABASE_URL=f"{START}?host=a,b&port=5432,5433")


@pytest.mark.parametrize("query", ["prepared_statement_cache_size=", "host=/run/postgresql&port=-1"])
def test_a_number_that_the_driver_cannot_read(query: str) -> None:
    rule = "port and prepared_statement_cache_size behind its ? must be whole numbers"
    assert refused(DATABASE_URL=f"{START}?{query}") == f"DATABASE_URL=(hidden): {rule}"


def test_a_word_for_tls_that_the_driver_does_not_know() -> None:
    rule = "ssl behind its ? must be one of disable, allow, prefer, require, verify-ca, verify-full"
    assert refused(DATABASE_URL=f"{START}?ssl=verify_ful") == f"DATABASE_URL=(hidden): {rule}"


NO_FILE = "must be a file of certificates in PEM: No such file or directory"


def test_a_file_of_certificates_that_is_not_there() -> None:
    """The drivers say that there is no such file, and not which."""
    rabbitmq = refused(RABBITMQ_URL="amqps://u:s3cret@h/?cafile=/nowhere.pem")
    assert rabbitmq == f"RABBITMQ_URL=(hidden): its cafile {NO_FILE}"
    ours = refused(RABBITMQ_URL="amqps://u:s3cret@h/?certfile=/nowhere.pem&keyfile=/nowhere.key")
    assert ours.startswith("RABBITMQ_URL=(hidden): its certfile and keyfile must be in PEM: ")
    for word in ("require", "verify-full", "verify_ca"):
        postgres = refused(DATABASE_URL=f"{START}?ssl={word}", PGSSLROOTCERT="/nowhere.pem")
        assert postgres == f"DATABASE_URL=(hidden): for its ssl={word} PGSSLROOTCERT='/nowhere.pem' {NO_FILE}"


def test_a_file_of_certificates_that_nobody_would_read() -> None:
    for url in (START, f"{START}?ssl=prefer"):
        assert settings(DATABASE_URL=url, PGSSLROOTCERT="/nowhere.pem", RABBITMQ_URL="amqp://h/?cafile=/nowhere.pem")


@pytest.mark.parametrize("option", ["ssl=1", "ssl_options=x", "virtualhost=prod", "port="])
def test_a_part_of_rabbitmqs_url_that_stands_among_its_options(option: str) -> None:
    """The driver would end with a TypeError."""
    name = option.split("=")[0]
    message = refused(RABBITMQ_URL=f"amqp://u:s3cret@h/?heartbeat=10&{option}")
    assert message.startswith(
        f"RABBITMQ_URL=(hidden): must have no {name} behind its ?: what says where and who stands"
    )
    assert settings(RABBITMQ_URL="amqp://u:p@h/?heartbeat=10&connection_timeout=5")


@pytest.mark.parametrize("url", ["amqp:///", "amqp://u:s3cret@/v", "amqps://"])
def test_a_rabbitmq_without_a_host_is_that_of_this_machine(url: str) -> None:
    assert settings(RABBITMQ_URL=url).rabbitmq_url.get_secret_value() == url


def test_calls_that_would_be_in_flight_for_good() -> None:
    rule = "ENTRYPOINT_INFLIGHT_METRIC='calls': must be a gauge, not ENTRYPOINT_CALLS_METRIC"
    assert refused(ENTRYPOINT_INFLIGHT_METRIC="calls", ENTRYPOINT_CALLS_METRIC="calls") == rule
    assert settings(ENTRYPOINT_INFLIGHT_METRIC="", ENTRYPOINT_CALLS_METRIC="calls")


def test_rules_for_a_model_without_a_name() -> None:
    """They would stand in the place of the fleet's own, which no rule would then be asked about."""
    assert "POLICY_OVERRIDES" in refused(POLICY_OVERRIDES='{"": {"min_replicas": 1}}', SCALE_MIN_REPLICAS="9")
