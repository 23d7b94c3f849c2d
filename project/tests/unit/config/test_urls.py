"""Which URLs of services and pages the settings refuse, and what becomes of the others."""

import pytest

from tests.unit.config.test_settings import refused, settings

SERVICES = ("MODEL_REGISTRY_URL", "MODEL_DISPATCHER_URL", "BOOKING_SERVICE_URL")


@pytest.mark.parametrize("url", ["http://x/metrics/", "http://x/", "http://x", "http://x/metrics?process=/"])
def test_a_metrics_page_is_asked_for_by_the_path_that_is_given(url: str) -> None:
    assert settings(ENTRYPOINT_METRICS_URLS=url).entrypoint_metrics_urls == (url,)


@pytest.mark.parametrize("again", ["http://x/metrics/", "http://x/metrics//"])
def test_the_same_page_with_a_slash_behind_it_is_one_page(again: str) -> None:
    for urls in (f"http://x/metrics,{again}", f"{again},http://x/metrics"):
        assert "number 2 is the same page as number 1" in refused(ENTRYPOINT_METRICS_URLS=urls)
    for urls in ("http://x,http://x/", "http://x/?a,http://x?a"):
        assert "number 2 is the same page as number 1" in refused(ENTRYPOINT_METRICS_URLS=urls)


@pytest.mark.parametrize("name", SERVICES)
def test_the_slash_behind_the_url_of_a_service_is_dropped(name: str) -> None:
    assert getattr(settings(**{name: "http://x/base/"}), name.lower()) == "http://x/base"


WRONG_HOSTS = ["a..b", ".a", "a" * 64, f"x.{'a' * 64}.y", "xn--a"]
RIGHT_HOSTS = ["a.", "a.b.", "a" * 63, "my_host", "m\u00fcnchen.example", "127.0.0.1", "[::1]", "[fe80::1%eth0]"]


@pytest.mark.parametrize("host", WRONG_HOSTS)
@pytest.mark.parametrize("name", [*SERVICES, "ENTRYPOINT_METRICS_URLS"])
def test_a_host_that_nobody_could_look_up_is_refused(name: str, host: str) -> None:
    text = refused(**{name: f"http://{host}:80"})
    assert text.startswith(name)
    assert f"='http://{host}:80': its host must be an address or a name" in text


@pytest.mark.parametrize("host", RIGHT_HOSTS)
def test_a_host_that_may_exist_is_not_refused(host: str) -> None:
    assert settings(MODEL_REGISTRY_URL=f"http://{host}:80", RABBITMQ_URL=f"amqp://u:p@{host}/")


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("RABBITMQ_URL", "amqp", "/"),
        ("DATABASE_URL", "postgresql+asyncpg", "/d"),
        ("MIGRATIONS_DATABASE_URL", "postgresql+asyncpg", "/d"),
    ],
)
def test_so_is_that_of_a_server_without_showing_its_password(name: str, start: str, end: str, host: str) -> None:
    text = refused(**{name: f"{start}://u:s3cret@{host}{end}"})
    assert text.startswith(f"{name}=(hidden): its host must be an address or a name")
    assert "s3cret" not in text


@pytest.mark.parametrize("more", ["?", "?a=b", "#", "#part", "/base?a=b"])
@pytest.mark.parametrize("name", SERVICES)
def test_the_url_of_a_service_has_nothing_behind_its_path(name: str, more: str) -> None:
    text = refused(**{name: f"http://x{more}"})
    assert text == f"{name}='http://x{more}': must end with its path, without ? and #: paths are joined to it"


@pytest.mark.parametrize("more", ["#", "/metrics#part", "/metrics?a=b#part"])
def test_a_metrics_page_has_no_fragment(more: str) -> None:
    text = refused(ENTRYPOINT_METRICS_URLS=f"http://x{more}")
    assert (
        text == f"ENTRYPOINT_METRICS_URLS [0]='http://x{more}': must have no # in it: what is behind it is never sent"
    )


@pytest.mark.parametrize("url", ["http://\u2603.x", "http://x/a\x07b"])
def test_a_url_with_a_character_that_no_url_has_is_refused(url: str) -> None:
    text = refused(MODEL_REGISTRY_URL=url)
    assert text.startswith(f"MODEL_REGISTRY_URL={url!r}: must be a URL that can be asked for: ")
