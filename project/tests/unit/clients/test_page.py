"""What a page shows besides its calls: requests in flight, counters of its own, and whether it is another page."""

import math
from collections import Counter

import pytest

from limiter.clients.known_page import SeriesCache
from limiter.clients.label_sets import BrokenPage, Family
from limiter.domain.usage import Heartbeat
from tests.unit.clients.pages import FAMILY, read_page

ONE = b'model_calls_total{model_name="m"} 1\n'
GAUGE = Family("in_flight", "model_name")
CUTS = [(), (7,), (20, 40), tuple(range(0, 200, 3))]


@pytest.mark.parametrize(
    ("line", "heartbeat"),
    [
        (b"process_cpu_seconds_total 0.05\n", Heartbeat.CPU),
        (b'process_cpu_seconds_total{node="a"} 0.05\n', Heartbeat.CPU),
        (b"# TYPE process_cpu_seconds_total counter\n", None),
        (b"process_cpu_seconds 0.05\n", None),
        (b"a_process_cpu_seconds_total 0.05\n", None),
        (b'promhttp_metric_handler_requests_total{code="200"} 4\n', Heartbeat.SCRAPES),
        (b'http_requests_total{path="/metrics"} 4\n', Heartbeat.SCRAPES),
        (b'http_requests_total{code="200",handler="/metrics",method="GET"} 4\n', Heartbeat.SCRAPES),
        (b'http_requests_total{path="/metrics/more"} 4\n', None),
        (b'http_requests{path="/metrics"} 4\n', None),  # a gauge, as far as one can see
        (b'http_seconds_bucket{path="/metrics",le="1"} 4\n', None),
        (b'# http_requests_total{path="/metrics"} 4\n', None),
        (b'model_calls_total{model_name="/metrics"} 4\n', None),  # a model of that name
        (b'process_cpu_seconds_total 0.05\nhttp_requests_total{path="/metrics"} 4\n', Heartbeat.SCRAPES),
        (b"", None),
    ],
)
def test_a_counter_of_the_page_itself_is_found_wherever_it_stands(line: bytes, heartbeat: Heartbeat | None) -> None:
    for page in (line + ONE, ONE + line):
        for cuts in CUTS:
            assert read_page(page, cuts=cuts).heartbeat is heartbeat


def test_pages_that_differ_in_a_byte_have_another_digest_and_equal_ones_the_same_however_they_come() -> None:
    page = ONE + b"# a comment\nother 1\n"
    digests = Counter(read_page(page, cuts=cuts).digest for cuts in CUTS)
    assert len(digests) == 1
    others = [page.replace(b"other 1", b"other 2"), page + b"\n", b"\n" + page, ONE]
    assert len({read_page(other).digest for other in (page, *others)}) == 5


def test_a_digest_fits_a_signed_number_of_64_bits() -> None:
    digests = [read_page(ONE + b"other %d\n" % number).digest for number in range(200)]
    assert all(-(2**63) <= digest < 2**63 for digest in digests)
    assert len(set(digests)) == 200


def test_requests_in_flight_are_read_by_model_beside_the_calls() -> None:
    page = b'in_flight{model_name="m"} 2\n' + ONE + b'in_flight{model_name="n"} 0\nin_flight{other="m"} 3\n'
    for cuts in CUTS:
        read = read_page(page, cuts=cuts, in_flight=SeriesCache(GAUGE))
        assert {read.in_flight.names[key]: value for key, value in read.in_flight.counters.items()} == {"m": 2, "n": 0}
        assert list(read.calls.counters.values()) == [1]


def test_a_page_without_a_request_in_flight_is_a_good_page() -> None:
    assert read_page(ONE, in_flight=SeriesCache(GAUGE)).in_flight.counters == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1])
def test_a_number_of_requests_that_cannot_be_is_unreadable(value: float) -> None:
    page = ONE + f'in_flight{{model_name="m"}} {value}\n'.encode()
    read = read_page(page, in_flight=SeriesCache(GAUGE)).in_flight
    assert (read.counters, list(read.unreadable.values())) == ({}, ["m"])


def test_a_broken_line_of_the_gauge_refuses_the_page() -> None:
    with pytest.raises(BrokenPage):
        read_page(ONE + b'in_flight{model_name="m"} many\n', in_flight=SeriesCache(GAUGE))


@pytest.mark.parametrize(
    "labels", [b'{model_name="m"}', b'{model_name="m",a=""}', b'{model_name="m\xc3\xa9",b="x,y=z"}']
)
def test_the_quick_way_to_labels_is_that_of_prometheus_client(labels: bytes) -> None:
    odd = labels.replace(b"{", b"{ ", 1)  # a blank, which the quick way leaves to the other
    quick, slow = (read_page(b"model_calls_total" + raw + b" 1\n", SeriesCache(FAMILY)) for raw in (labels, odd))
    assert quick.calls.names == slow.calls.names
