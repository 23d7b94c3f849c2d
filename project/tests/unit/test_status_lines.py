"""The status in lines of text, as `ctl status` prints it."""

from typing import Any

from limiter.api.status_page import lines

AT = "2026-03-02T10:00:00+00:00"
WICKED = "m\n  ghost of b: 9 slots\r\x1b[2J\u2028\ud800"
SHOWN = "m\\n  ghost of b: 9 slots\\r\\x1b[2J\\u2028\\ud800"


def status(name: str) -> dict[str, Any]:
    """A status in which everything that somebody else names has this name."""
    spell = {"user_name": name, "model_name": name, "slots": 1, "state": "warned"}
    job = {"name": "rps_check", "paused": True, "paused_by": name, "paused_reason": name, "state": None}
    return {
        "version": "1",
        "at": AT,
        "shard": "0/1",
        "dry_run": False,
        "next": [spell | {"not_before": AT, "delivered_at": AT}],
        "next_total": 1,
        "jobs": [job | {"started_at": None}],
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
    assert wicked.count(SHOWN) == 7


def test_words_of_every_language_stay_as_they_are() -> None:
    assert "модель 模型" in lines(status("модель 模型"))
