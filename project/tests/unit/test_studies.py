"""The study's own input: a load of one's own, and settings to try."""

from pathlib import Path

import pytest

from dev.studies.loads import trace
from dev.studies.scaler_comparison import carried, tried


def test_a_trace_has_its_calls_second_by_second_and_none_in_between(tmp_path: Path) -> None:
    file = tmp_path / "calls.csv"
    file.write_text("second,calls\n0,3\n2,4\n")
    assert list(trace(file)) == [3, 0, 4]


@pytest.mark.parametrize("line", ["1,x", "-1,2", "1,-2", "1", "1,2,3", "1796094113,2"])
def test_a_wrong_line_of_a_trace_is_named_with_its_file_and_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "calls.csv"
    file.write_text(f"second,calls\n0,3\n{line}\n")
    with pytest.raises(ValueError, match=r"calls\.csv.*3"):
        trace(file)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "ten", ""])
def test_a_target_that_no_replica_carries_is_refused(text: str) -> None:
    assert carried("1.5") == 1.5
    with pytest.raises(ValueError, match=f"TARGET='{text}': must be a number above 0"):
        carried(text)


def test_settings_are_tried_by_the_names_they_have_in_the_environment() -> None:
    assert tried("") == {}
    assert tried('{"SCALE_DOWN_HEADROOM": 0.9}') == {"scale_down_headroom": 0.9}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"SCALE_X": 1}', "SCALE_X: there is no such setting"),
        ('{"SCALE_DOWN_HEADROOM": 2}', "less than 1"),
        ("[1]", "not a JSON object"),
        ("{", "Expecting"),
    ],
)
def test_what_cannot_be_tried_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        tried(text)
