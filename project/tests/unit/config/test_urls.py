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
