"""The status in lines of text, as `ctl status` prints it."""

from typing import Any

from limiter.api.status_page import lines

AT, PAUSED_AT = "2026-03-02T10:00:00+00:00", "2026-03-02T07:00:00+00:00"
USER = "00000000-0000-0000-0000-0000000000a1"
WICKED = "m\n  ghost of b: 9 slots\r\x1b[2J\u2028\ud800"
SHOWN = "m\\n  ghost of b: 9 slots\\r\\x1b[2J\\u2028\\ud800"


def status(name: str) -> dict[str, Any]:
    """A status in which everything that somebody else names has this name."""
    spell = {"user_name": name, "model_name": name, "slots": 1, "state": "warned"}
    job = {"name": "rps_check", "paused": True, "paused_by": name, "paused_reason": name, "state": None}
    held = {"held": [{"user_id": USER, "model_name": name}], "held_total": 1}
    surge = {"kind": "warning", "since": AT, "allowed_at": None} | held
    allowed = {"kind": "cancelling", "since": AT, "allowed_at": AT, "allowed_by": name, "held": [], "held_total": 0}
    return {
        "version": "1",
        "at": AT,
        "shard": "0/1",
        "dry_run": False,
        "clock_off": False,
        "next": [spell | {"not_before": AT, "delivered_at": AT}],
        "next_total": 1,
        "surges": [surge, allowed],
        "jobs": [job | {"started_at": None, "paused_at": PAUSED_AT}],
        "models_total": 1,
        "replicas": 1,
        "without_enough": 0,
        "commands": [{"kind": "scale_up", "model_name": name, "state": "planned", "planned_at": AT}],
        "targets": [{"target": name, "read_at": AT, "age_seconds": 1, "silent": False, "stale": False}],
        "left_alone": [f"entrypoint {name}"],
        "events_total": 0,
    }


def test_a_name_neither_makes_a_line_of_its_own_nor_moves_the_cursor() -> None:
    plain, wicked = lines(status("m")), lines(status(WICKED))
    assert len(wicked.split("\n")) == len(plain.split("\n"))
    assert wicked.replace("\n", "").isprintable()
    assert wicked.count(SHOWN) == 9


def test_words_of_every_language_stay_as_they_are() -> None:
    assert "модель 模型" in lines(status("модель 模型"))


def test_of_many_spells_it_is_told_how_many_are_not_shown() -> None:
    found = status("m")
    assert "more" not in lines(found)
    assert "warned 0 s ago, due in 0 s\n  and 70 more, later\n" in lines(found | {"next_total": 71})


def test_a_pause_and_a_surge_say_since_when_by_whom_and_whom_they_concern() -> None:
    shown = lines(status("m")).splitlines()
    assert "  rps_check: never run, PAUSED 3.0 h ago by m: m" in shown
    held = "nobody is warned or cancelled on its account until it is over, or allowed (allow-surge)"
    first = shown.index(f"surge of warnings, begun 0 s ago: {held}")
    assert shown[first + 1 : first + 3] == [
        f"  held back: user {USER} of m",
        "surge of cancellings, begun 0 s ago: allowed by m",
    ]


def test_what_the_database_says_has_just_been_is_not_to_come_and_a_wrong_clock_shows() -> None:
    found = status("m")
    job = {"name": "idle_warning", "paused": False, "paused_by": None, "paused_reason": None, "state": "completed"}
    found["jobs"] = [
        job | {"started_at": f"2026-03-02T{started}+00:00", "paused_at": None}
        for started in ("10:00:01", "10:02:00", "09:58:00")
    ]
    shown = [line for line in lines(found).splitlines() if "idle_warning" in line]
    assert [line.split(": completed ")[1] for line in shown] == ["0 s ago", "in 2 min", "2 min ago"]
    assert "  scale_up m: planned, planned 0 s ago" in lines(found).splitlines()


def test_a_dry_run_a_share_and_all_that_is_wrong_is_said() -> None:
    found = status("m") | {"dry_run": True, "shard": "1/2", "clock_off": True, "without_enough": 2, "surges": []}
    found["next"][0]["delivered_at"] = None
    found["targets"] += [
        {"target": "old", "read_at": AT, "age_seconds": 300, "silent": True, "stale": True},
        {"target": "new", "read_at": None, "age_seconds": None, "silent": False, "stale": False},
    ]
    assert lines(found).splitlines() == [
        "rps-limiter 1, share 1/2, DRY RUN: nothing is done",
        "THE CLOCK of the replica that tells this is off the database's: ages and times to come are wrong",
        "who is next (1):",
        "  m of m: 1 slot, warned, warning not delivered, due in 0 s",
        "jobs:",
        "  rps_check: never run, PAUSED 3.0 h ago by m: m",
        "fleet: 1 model, 1 replica, 2 models without enough",
        "  scale_up m: planned, planned 0 s ago",
        "  m: read 1 s ago",
        "  old: read 5 min ago, stale, silent",
        "  new: never read",
        "  left alone: entrypoint m",
        "events that wait: 0",
    ]
    assert lines(status("m")).splitlines()[:2] == ["rps-limiter 1", "who is next (1):"]
