"""A recording reads back as it was written, is bounded, and says which line is wrong."""

import gzip
import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from limiter.config.policy import PolicySettings
from limiter.domain.audit import DecisionRecord
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.folding import fold
from limiter.domain.idle_spell import SpellState, Step, StepState
from limiter.domain.job import Job
from limiter.domain.keep import Keep
from limiter.domain.reservations import Bookings
from limiter.domain.usage import Memory
from limiter.recording.encoder import Encoder
from limiter.recording.format import Start
from limiter.recording.lines import Began, Idle, Line, Tick
from limiter.recording.reader import WrongRecording, read
from limiter.recording.recorder import Recorder
from limiter.recording.trace import RunTrace
from limiter.replay.__main__ import main
from limiter.replay.simulation import Simulation
from tests.unit.domain.build import ANNA, HOUR, at, command, failed_scrape, page, reservation, served, slot, spell

FLEET = Fleet((served(1, "m", 2), served(2, "n")))
BOOKED = reservation(slot(0, HOUR), slot(HOUR, 2 * HOUR), name="m")
RECORD = DecisionRecord(
    at(15), served().id, "m", ANNA.id, Decision.WARN, Reason.UNUSED, {"slots": 2, "idle_seconds": 0.1}
)
SETTINGS = PolicySettings().model_dump(mode="json")
UNAHEAD = {
    "scale_burst_factor": 0,
    "scale_lead": False,
    "scale_down_step": 1,
    "scale_commands_per_run": 100_000,
}


def recorder(path: Path, limit: int = 10**6) -> Recorder:
    return Recorder(str(path), limit, SETTINGS)


def tick(to: Recorder, now: float, fleet: Fleet | None = FLEET, **counters: float) -> None:
    commands = {served().id: command(CommandState.COMPLETED, 30)}
    to.tick(
        at(now),
        [page(now, counters, started=0), failed_scrape("b")],
        fleet,
        commands,
        [RECORD],
        (Memory(), {}),
        {"m": 41.5},
    )


def without_sagas(path: Path) -> list[Line]:
    """The lines of a recording as an earlier version had them, which did not tell how long sagas last."""
    return [replace(line, saga_seconds={}) if isinstance(line, Tick) else line for line in read(path)]


def idle(to: Recorder, now: float, **changes: Any) -> None:
    simulation = Simulation(PolicySettings().policy())
    warned = changes.get("spell", spell(delivered=10))
    simulation.keeps = changes.get("keeps", ())
    simulation.spells[warned.key], simulation.closed[warned.key] = warned, at(5)
    snapshot = simulation.snapshot(
        at(now), [page(now, {"m": 1.0})], FLEET, changes.get("bookings", Bookings((BOOKED,)))
    )
    trace = RunTrace(
        snapshots=((None, snapshot), (warned.key, snapshot)),
        acted=(RECORD,),
        cancelled=((warned.key, BOOKED.slots[1]),),
    )
    to.idle(Job.IDLE_ENFORCE, at(now), trace)


def test_ticks_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    tick(to, 15, m=1.0, n=float("nan"))
    tick(to, 30, m=2.5)
    smaller = Fleet((served(2, "n", 3),), complete=False)
    tick(to, 45, smaller, n=7.0)
    tick(to, 60, None, n=7.0)
    began, *ticks = read(path)
    assert isinstance(began, Began)
    assert began.settings == SETTINGS
    assert [line.at for line in ticks if isinstance(line, Tick)] == [at(15), at(30), at(45), at(60)]
    first, second, third, last = (line for line in ticks if isinstance(line, Tick))
    assert first.scrapes == (page(15, {"m": 1.0, "n": float("nan")}, started=0), failed_scrape("b"))
    assert second.scrapes[0] == page(30, {"m": 2.5}, started=0)
    assert third.scrapes[0] == page(45, {"n": 7.0}, started=0)
    assert (first.fleet, second.fleet, third.fleet, last.fleet) == (FLEET, FLEET, smaller, None)
    assert second.fleet is first.fleet
    assert first.commands == {served().id: command(CommandState.COMPLETED, 30)}
    assert first.found == [RECORD]


def test_how_a_page_was_read_and_how_it_was_before_the_recording_read_back(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    before = fold(Memory(), [replace(page(0, {"m": 1.0}), read_as="before")], {"m"}, at(0), timedelta(minutes=5)).memory
    now = replace(page(15, {"m": 90_000.0}), read_as="now")
    recorder(path).tick(at(15), [now], FLEET, {}, [], (before, {}), {})
    began, line = read(path)
    assert isinstance(began, Began)
    assert began.start.memory == before
    assert isinstance(line, Tick)
    assert line.scrapes == (now,)


def test_a_recording_that_does_not_tell_how_pages_were_read_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    memory = fold(Memory(), [page(0, {"m": 1.0})], {"m"}, at(0), timedelta(minutes=5)).memory
    recorder(path).tick(at(15), [page(15, {"m": 2.0})], FLEET, {}, [], (memory, {}), {})
    written = path.read_text()
    path.write_text(written.replace(',"read_as":null', ""))
    assert "read_as" in written
    assert "read_as" not in path.read_text()
    began, line = read(path)
    assert isinstance(began, Began)
    assert began.start.memory == memory
    assert isinstance(line, Tick)
    assert line.scrapes == (page(15, {"m": 2.0}),)


def test_snapshots_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    idle(to, 15)
    idle(to, 30, bookings=Bookings((replace(BOOKED, slots=BOOKED.slots[:1]),), frozenset({"n"})))
    began, first, second = read(path)
    assert isinstance(began, Began)
    assert isinstance(first, Idle)
    assert isinstance(second, Idle)
    assert [snapshot.of for snapshot in first.snapshots] == [None, (served().id, ANNA.id)]
    snapshot = first.snapshots[0]
    assert (snapshot.at, snapshot.fleet, snapshot.bookings) == (at(15), FLEET, Bookings((BOOKED,)))
    assert snapshot.scrapes == (page(15, {"m": 1.0}),)
    assert snapshot.spells == {(served().id, ANNA.id): spell(delivered=10)}
    assert snapshot.closed == {(served().id, ANNA.id): at(5)}
    assert first.cancelled == [((served().id, ANNA.id), BOOKED.slots[1])]
    assert second.snapshots[0].bookings.reservations[0].slots == BOOKED.slots[:1]
    assert second.snapshots[0].bookings.unreadable == {"n"}


def test_keeps_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    keeps = [Keep("m", ANNA.id, at(0), at(HOUR), "a demo", "ops"), Keep("n", None, at(5), at(90))]
    for now, kept in ((15, keeps), (30, keeps[:1]), (45, [])):
        idle(to, now, keeps=kept)
    lines = [line for line in read(path) if isinstance(line, Idle)]
    assert [line.snapshots[0].keeps for line in lines] == [keeps, keeps[:1], []]


@pytest.mark.parametrize("state", [SpellState.WARNED, SpellState.ENFORCING])
def test_a_spell_reads_back_with_its_steps_its_uninstall_and_why_it_was_stopped(
    tmp_path: Path, state: SpellState
) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    command = Command(
        UUID(int=5), served().id, "m", CommandKind.UNINSTALL, None, CommandState.FAILED, at(12),
        saga_id=UUID(int=6), finished_at=at(14), failures=1, spell_id=UUID(int=9), sent_at=at(13),
    )  # fmt: skip
    begun = spell(
        delivered=10,
        not_before=20,
        steps=(
            Step(BOOKED.slots[0], StepState.PLANNED, 2, at(99)),
            Step(BOOKED.slots[1], StepState.ALREADY_GONE, 1),
        ),
        uninstall=command,
        stopped_for=Reason.KEPT,
        enforcing_at=at(21),
        settled_at=at(22),
    )
    idle(to, 15, spell=replace(begun, state=state))
    idle(to, 30, spell=replace(begun, state=state, steps=begun.steps[:1]))
    began, first, second = read(path)
    assert isinstance(began, Began)
    assert isinstance(first, Idle)
    assert isinstance(second, Idle)
    assert began.start.spells == [replace(begun, state=state)]
    assert list(first.snapshots[0].spells.values()) == [replace(begun, state=state)]
    assert list(second.snapshots[1].spells.values()) == [replace(begun, state=state, steps=begun.steps[:1])]


def test_a_line_carries_only_what_changed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    tick(to, 15, m=1.0, n=1.0)
    tick(to, 30, m=1.0, n=2.0)
    line = json.loads(path.read_text().splitlines()[2])
    assert line["scrapes"][0]["counters"] == {"set": {"n": 2.0}}
    assert line["fleet"] == {"models": {}}


VERSION_1_START = {
    "v": 1,
    "by": "ce104a56",
    "n": 0,
    "kind": "start",
    "settings": {"scale_max_replicas": 8},
    "state": {
        "memory": {"targets": {}, "usage": {}, "gaps": []},
        "sightings": [
            {
                "model_id": "00000000-0000-0000-0000-000000000001",
                "name": "m",
                "replicas": 2,
                "first_seen_at": "2026-01-01T00:00:05Z",
                "up_since": "2026-01-01T00:00:10Z",
                "down_since": None,
                "standing": None,
            },
            {
                "model_id": "00000000-0000-0000-0000-000000000002",
                "name": "n",
                "replicas": 1,
                "first_seen_at": "2026-01-01T00:00:00Z",
                "up_since": None,
                "down_since": "2026-01-01T00:00:12Z",
                "standing": "hold:within_target",
            },
        ],
        "commands": [],
        "spells": [],
        "closed": [],
        "standing": [],
    },
}


def test_a_start_line_of_version_1_reads_as_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(VERSION_1_START) + "\n")
    overloaded = ScalingState(served(1).id, "m", 2, at(5), overloaded_since=at(10))
    underused = ScalingState(served(2).id, "n", 1, at(0), underused_since=at(12), standing="hold:within_target")
    start = Start(Memory(), [overloaded, underused], [], [], [], [])
    assert list(read(path)) == [Began(UNAHEAD | {"scale_max_replicas": 8}, start)]


def test_the_other_lines_of_version_1_are_those_of_version_4(tmp_path: Path) -> None:
    path, older = tmp_path / "r.jsonl", tmp_path / "older.jsonl"
    to = recorder(path)
    tick(to, 15, m=1.0)
    idle(to, 30)
    start, *others = path.read_text().splitlines()
    assert all(line.startswith('{"v":4,') for line in (start, *others))
    fields = VERSION_1_START | {"by": json.loads(start)["by"]}
    older.write_text("\n".join([json.dumps(fields), *(line.replace('"v":4', '"v":1', 1) for line in others)]))
    assert list(read(older))[1:] == without_sagas(path)[1:]


@pytest.mark.parametrize("version", [2, 3])
def test_the_lines_of_versions_2_and_3_are_those_of_version_4(tmp_path: Path, version: int) -> None:
    path, older = tmp_path / "r.jsonl", tmp_path / "older.jsonl"
    to = recorder(path)
    tick(to, 15, m=1.0)
    idle(to, 30)
    lines = path.read_text().splitlines()
    older.write_text("\n".join(line.replace('"v":4', f'"v":{version}', 1) for line in lines))
    began, *others = read(older)
    assert isinstance(began, Began)
    assert began.settings == UNAHEAD | SETTINGS
    assert others == without_sagas(path)[1:]


@pytest.mark.parametrize("version", [1, 2])
def test_what_expired_in_an_earlier_version_is_a_withdrawal_now(tmp_path: Path, version: int) -> None:
    path, older = tmp_path / "r.jsonl", tmp_path / "older.jsonl"
    to = recorder(path)
    tick(to, 15, m=1.0)
    idle(to, 30)
    start, *others = path.read_text().splitlines()
    started = VERSION_1_START if version == 1 else json.loads(start)
    fields = started | {"by": json.loads(others[0])["by"]}
    lines = [
        json.loads(line.replace('"decision":"warn","reason":"unused"', '"decision":"expire","reason":"booking_gone"'))
        for line in others
    ]
    assert all(line["found"][0]["decision"] == "expire" for line in lines)
    older.write_text("\n".join(json.dumps(line | {"v": version}) for line in (fields, *lines)))
    for line in list(read(older))[1:]:
        assert isinstance(line, Tick | Idle)
        assert [(one.decision, one.reason) for one in line.found] == [(Decision.WITHDRAW, Reason.BOOKING_GONE)]
        assert line.found[0].numbers == RECORD.numbers


@pytest.mark.parametrize("version", [1, 2])
def test_an_earlier_version_has_no_keeps_and_its_spells_name_no_slots(tmp_path: Path, version: int) -> None:
    path, older = tmp_path / "r.jsonl", tmp_path / "older.jsonl"
    to = recorder(path)
    tick(to, 15)
    idle(to, 30)
    _, first, second = map(json.loads, path.read_text().splitlines())
    for one in second["looks"]:
        del one["keeps"]
        for kind in ("all", "set"):
            for named in one["spells"].get(kind, {}).values():
                for field in ("steps", "uninstall", "stopped_for", "enforcing_at", "settled_at"):
                    named.pop(field)
    fields = VERSION_1_START | {"by": first["by"]}
    lines = [first | {"v": version}, second | {"v": version}]
    older.write_text("\n".join(json.dumps(line) for line in (fields, *lines)))
    *_, line = read(older)
    assert isinstance(line, Idle)
    assert line.snapshots[0].keeps == []
    assert list(line.snapshots[0].spells.values()) == [spell(delivered=10)]


@pytest.mark.parametrize("version", [0, 5, "1", None])
def test_a_line_of_an_unknown_version_is_refused(tmp_path: Path, version: object) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(VERSION_1_START | {"v": version}))
    with pytest.raises(WrongRecording, match=rf"r\.jsonl:1: .*version {version}: only versions 1 to 4 can be read"):
        list(read(path))


def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    one, other = recorder(path), recorder(path)
    tick(one, 15, m=1.0)
    tick(other, 30, m=2.0)
    tick(one, 45, m=3.0)
    ticks = [line for line in read(path) if isinstance(line, Tick)]
    assert [line.scrapes[0] for line in ticks] == [
        page(now, {"m": calls}, started=0) for now, calls in ((15, 1.0), (30, 2.0), (45, 3.0))
    ]


def test_it_stops_before_it_grows_beyond_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path, 8000)
    for now in range(15, 1500, 15):
        tick(to, now, m=float(now))
    assert 4000 < path.stat().st_size <= 8000
    assert not to.on
    assert len(list(read(path))) > 3


@pytest.mark.parametrize(
    "away", [lambda path: path.rename(path.with_name("old.jsonl")), lambda path: os.truncate(path, 0)]
)
def test_where_the_file_was_moved_away_or_emptied_every_process_begins_anew(tmp_path: Path, away: Any) -> None:
    path = tmp_path / "r.jsonl"
    one, other = recorder(path), recorder(path)
    tick(one, 15, m=1.0)
    tick(other, 30, m=2.0)
    away(path)
    tick(other, 45, m=3.0)
    tick(one, 60, m=4.0)
    tick(other, 75, m=5.0)
    lines = list(read(path))
    assert sum(isinstance(line, Began) for line in lines) == 2
    assert [line.at for line in lines if isinstance(line, Tick)] == [at(45), at(60), at(75)]


def test_a_part_of_a_line_that_a_replica_left_is_read_over_and_what_the_next_one_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    one, other = recorder(path), recorder(path)
    tick(one, 15, m=1.0)
    tick(one, 30, m=2.0)
    os.truncate(path, path.stat().st_size - 50)  # its machine went down
    tick(other, 45, m=3.0)
    tick(other, 60, m=4.0)
    assert [line.at for line in read(path) if isinstance(line, Tick)] == [at(15), at(45), at(60)]


def test_where_the_file_is_moved_away_while_a_line_is_made_the_new_one_begins_with_all_that_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, old = tmp_path / "r.jsonl", tmp_path / "old.jsonl"
    one, scrapes = recorder(path), Encoder.scrapes
    tick(one, 15, m=1.0)

    def moved(self: Encoder, found: Any) -> Any:
        if not old.exists():
            path.rename(old)
        return scrapes(self, found)

    monkeypatch.setattr(Encoder, "scrapes", moved)
    tick(one, 30, m=2.0)
    tick(one, 45, m=3.0)
    assert [line.at for line in read(path) if isinstance(line, Tick)] == [at(45)]
    assert [line.at for line in read(old) if isinstance(line, Tick)] == [at(15)]


def test_of_a_line_for_which_there_is_no_room_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    tick(to, 15, m=1.0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, raw: write(file, raw[:-20]))  # as on a disk that is full
    tick(to, 30, m=2.0)
    assert not to.on
    assert len(list(read(path))) == 2


def test_a_place_that_cannot_be_written_stops_the_recording_and_nothing_else(tmp_path: Path) -> None:
    to = recorder(tmp_path / "missing" / "r.jsonl")
    tick(to, 15, m=1.0)
    assert not to.on


def test_without_a_path_nothing_is_recorded() -> None:
    to = Recorder("", 10**6, SETTINGS)
    tick(to, 15, m=1.0)
    assert not to.on


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (lambda lines: [lines[0], lines[2]], r"r\.jsonl:2: .*line 1 of process \w+ is missing: line 2 follows"),
        (lambda lines: [lines[0], "{nonsense"], r"r\.jsonl:2: "),
        (lambda lines: [lines[0].replace('"v":4', '"v":9')], r"r\.jsonl:1: .*version 9: only versions 1 to 4 can"),
        (lambda lines: [lines[0].replace('"start"', '"end"')], r"r\.jsonl:1: .*'end' is not one of start, tick, idle"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, broken: Any, rule: str) -> None:
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    tick(to, 15, m=1.0)
    tick(to, 30, m=2.0)
    path.write_text("\n".join(broken(path.read_text().splitlines())))
    with pytest.raises(WrongRecording, match=rule):
        list(read(path))


def test_the_command_prints_what_would_be_done_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALE_MAX_REPLICAS", "7")  # the environment's own, and none of the other file's
    path = tmp_path / "r.jsonl"
    to = recorder(path)
    for now in range(0, 600, 15):
        tick(to, now, m=1.0 + 30.0 * now, n=1.0)
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    eager = tmp_path / "eager.env"
    eager.write_text("SCALE_TARGET_RPS_PER_REPLICA=5\nDATABASE_URL=none of our business\n")
    assert main([str(path.with_suffix(".jsonl.gz")), str(eager)]) == 0
    shown = capsys.readouterr().out
    assert "simulated hours per second" in shown
    assert "SCALE_TARGET_RPS_PER_REPLICA=5.0 (recorded with 10.0)" in shown
    assert shown.count("SCALE_MAX_REPLICAS=7 (recorded with 8)") == 1
    assert "scale_up    m: 15.0 RPS per replica > 10 × 1.1 for 75 s: 2 → 3" in shown
    assert main([]) == 2
    assert main([str(tmp_path / "none.jsonl")]) == 1
    assert main([str(path), "none.env"]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_the_command_says_from_when_on_other_settings_were_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    other = Recorder(str(path), 10**6, SETTINGS | {"scale_max_replicas": 5})
    for now, to in ((0, recorder(path)), (15, recorder(path)), (30, other), (45, recorder(path))):
        tick(to, now, m=1.0)
    assert main([str(path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    first = shown.index(f"recorded after {at(15):%Y-%m-%d %H:%M:%S} UTC under:")
    assert shown[first + 1 : first + 4] == [
        "  SCALE_MAX_REPLICAS=5 (recorded with 8)",
        f"recorded after {at(30):%Y-%m-%d %H:%M:%S} UTC under:",
        "  the settings that it begins with",
    ]
