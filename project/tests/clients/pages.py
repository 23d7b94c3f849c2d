"""Metrics pages: read by our reader in pieces, read by prometheus_client, and invented by hypothesis."""

import re
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from limiter.clients.exposition import MOST, Family, PageReader, Series, SeriesCache

METRIC, LABEL = "model_calls_total", "model_name"
FAMILY = Family(METRIC, LABEL)
OF_FAMILY = re.compile(rb"[ \t]*" + METRIC.encode() + rb"[ \t{]")


@dataclass(frozen=True)
class Found:
    """A page's answer without the reader's own way to name a series."""

    counters: tuple[tuple[str, float], ...]
    unreadable: tuple[str, ...]


class Refused(Exception):
    """prometheus_client refuses the page, or a series stands twice on it."""


def read(page: bytes, cache: SeriesCache | None = None, cuts: tuple[int, ...] = ()) -> Series:
    """Our reader's answer to a page that comes in pieces, cut at these places."""
    reader = PageReader(cache or SeriesCache(FAMILY))
    edges = [0, *sorted(cut % (len(page) + 1) for cut in cuts), len(page)]
    for start, end in pairwise(edges):
        reader.feed(page[start:end])
    return reader.finish()


def found(series: Series) -> Found:
    counters = sorted((series.names[key], value) for key, value in series.counters.items())
    return Found(tuple(counters), tuple(sorted(series.unreadable.values())))


def expected(page: bytes, family: Family = FAMILY) -> Found:
    """prometheus_client's answer to the page, sorted as the reader must; raises Refused."""
    counters, unreadable, seen = [], [], set()
    for labels, value in _samples(page):
        if LABEL not in labels or any(labels.get(key) != wanted for key, wanted in family.match.items()):
            continue
        if frozenset(labels.items()) in seen:
            raise Refused("twice")
        seen.add(frozenset(labels.items()))
        if 0 <= value <= MOST:
            counters.append((labels[LABEL], value))
        else:
            unreadable.append(labels[LABEL])
    return Found(tuple(sorted(counters)), tuple(sorted(unreadable)))


def _samples(page: bytes) -> list[tuple[dict[str, str], float]]:
    try:
        families = list(text_string_to_metric_families(page.decode()))
    except Exception as error:  # its parser raises whatever happens to it
        raise Refused(str(error)) from error
    samples = [sample for family in families for sample in family.samples]
    return [(dict(sample.labels), float(sample.value)) for sample in samples if sample.name == METRIC]


def family_lines(page: bytes) -> list[bytes]:
    return [line for line in page.split(b"\n")[:-1] if OF_FAMILY.match(line)]


# --- inventing pages ---

VALUES = st.text(st.sampled_from(list('aB/-.{}",=\\\n\t\r #é\u2028')), max_size=8)
OTHERS = st.dictionaries(st.sampled_from(["service_name", "zone", "model", "le"]), VALUES, max_size=3)
NUMBERS = st.one_of(
    st.integers(0, 10**18).map(str),
    st.floats(0, 1e300).map(repr),
    st.sampled_from(["NaN", "+Inf", "-Inf", "Inf", "-3", "-0.0", "1.81039e+06", "1E3", ".5", "5.", "+7", "1e400"]),
)
ENDS = st.sampled_from(["\n", "\n", "\r\n", " \n", "\t\r\n"])
NOISE = st.sampled_from(
    [
        "\n",
        "# nothing to see here\n",
        f'# {METRIC}{{{LABEL}="m"}} 7\n',
        f"# HELP {METRIC} Calls of each model\n",
        f"# TYPE {METRIC} counter\n",
        "# TYPE model_calls_created gauge\n",
        'model_calls_created{model_name="m"} 1.7e+09\n',
        'model_calls_totals{model_name="m"} 3\n',
        'model_calls_total_bucket{model_name="m",le="1"} 3\n',
        'a_model_calls_total{model_name="m"} 4\n',
        "model_calls 3\n",
        f"{METRIC} 12\n",
        f'{METRIC}{{zone="no model"}} 13\n',
        'process_start_time_seconds{of="another"} 5\n',
    ]
)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@st.composite
def _lines(draw: st.DrawFn) -> tuple[frozenset[tuple[str, str]], str]:
    """One line of the family, of a legal shape, and its labels."""
    labels = {LABEL: draw(VALUES), **draw(OTHERS)}
    order = draw(st.permutations(sorted(labels)))
    if draw(st.booleans()):  # as client libraries write it
        body = ",".join(f'{key}="{_escaped(labels[key])}"' for key in order)
        return frozenset(labels.items()), f"{METRIC}{{{body}}} {draw(NUMBERS)}\n"
    equals, comma = draw(st.sampled_from(["=", " = "])), draw(st.sampled_from([",", ", ", " ,\t"]))
    body = comma.join(f'{key}{equals}"{_escaped(labels[key])}"' for key in order) + draw(st.sampled_from(["", ","]))
    before, after = draw(st.sampled_from(["", " ", "\t"])), draw(st.sampled_from([" ", "\t", "  ", ""]))
    stamp = draw(st.sampled_from(["", " 1700000000000", " -1"]))
    return frozenset(labels.items()), f"{METRIC}{before}{{{body}}}{after}{draw(NUMBERS)}{stamp}{draw(ENDS)}"


CUTS = st.lists(st.integers(0, 5000), max_size=6).map(tuple)
SERIES = st.lists(_lines(), min_size=1, max_size=6, unique_by=lambda line: line[0])


@st.composite
def legal_pages(draw: st.DrawFn) -> bytes:
    """Pages that a lawful exporter may write, no series twice."""
    lines = [line for _, line in draw(SERIES)] + draw(st.lists(NOISE, max_size=6))
    return "".join(draw(st.permutations(lines))).encode()


@st.composite
def mutilated_pages(draw: st.DrawFn) -> bytes:
    """Legal pages in which some bytes were changed, inserted or lost."""
    page = bytearray(draw(legal_pages()))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(page) - 1)))
        page[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b'"', b"{", b"}", b",", b"=", b"\\", b" ", b"\n", b"#", b"1", b"-", b"e", b"\xff"])
        )
    return bytes(page) + b"\n"
