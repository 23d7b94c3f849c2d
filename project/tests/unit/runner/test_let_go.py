"""What a run no longer needs goes at once, not when garbage is collected: a snapshot of a large fleet is tens of MB."""

import gc
import weakref
from typing import Any

from limiter.recording.recorder import Recorder
from limiter.recording.trace import RunTrace
from limiter.runner.run import let_go


class Large:
    """What a failed function was working on."""


def fail(known: list[weakref.ref[Large]], cause: bool) -> None:
    large = Large()
    known.append(weakref.ref(large))
    if cause:
        try:
            fail(known, False)
        except ValueError as error:
            raise RuntimeError("of that") from error
    raise ValueError("wrong")


def test_a_failure_and_its_cause_let_go_of_what_they_worked_on() -> None:
    known: list[weakref.ref[Large]] = []
    gc.disable()
    try:
        try:
            fail(known, True)
        except RuntimeError as error:
            assert [one() is None for one in known] == [False, False]
            let_go(error)
            assert [one() is None for one in known] == [True, True]
    finally:
        gc.enable()


def test_snapshots_are_kept_for_a_recording_alone() -> None:
    snapshot: Any = object()
    part = RunTrace(snapshots=((None, snapshot),))
    assert Recorder("", 0, {}).kept(part) == RunTrace()
    assert Recorder("/dev/null", 0, {}).kept(part) is part
