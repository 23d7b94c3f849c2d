"""The status as a person reads it: as a page, and as lines of text."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from limiter.domain.audit import counted, duration
from limiter.logs.lines import printable

A_LITTLE = timedelta(minutes=1)  # more is no jitter, but a wrong clock, and must show


def _moment(at: str | None) -> str:
    return datetime.fromisoformat(at).strftime("%m-%d %H:%M:%S") if at else "never"


def _until(at: str | None, now: str) -> str:
    """How far a moment is from now, in words."""
    if at is None:
        return "not known"
    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(now)).total_seconds()
    return f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"


def _ago(at: str | None, now: str) -> str:
    """How long ago something was; the clock that told when may be a little ahead of ours."""
    ahead = datetime.fromisoformat(at) - datetime.fromisoformat(now) if at else A_LITTLE
    return "0 s ago" if timedelta(0) <= ahead < A_LITTLE else _until(at, now)


def _allowed(surge: Mapping[str, Any]) -> str:
    """Whether somebody has said that a surge is right."""
    if surge["allowed_at"] is None:
        return "nobody is warned or cancelled on its account until it is over, or allowed (allow-surge)"
    return f"allowed by {surge['allowed_by'] or 'somebody'}"


def _shown(value: object) -> object:
    """A name that turns its line around would turn what stands behind it around, too."""
    return printable(value) if isinstance(value, str) else value


_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    finalize=_shown,
)
_PAGES.filters |= {
    "moment": _moment,
    "until": _until,
    "ago": _ago,
    "duration": duration,
    "counted": counted,
    "allowed": _allowed,
}


def page(found: Mapping[str, Any], *, again: bool) -> str:
    """The status as an HTML page, which says whether it is read `again` by itself."""
    return _PAGES.get_template("status.html").render(found, again=again)


def lines(found: Mapping[str, Any]) -> str:
    """The status in lines of text, the most urgent first."""
    at = found["at"]
    shard = "" if found["shard"] == "0/1" else f", share {found['shard']}"
    text = [f"rps-limiter {found['version']}{shard}{', DRY RUN: nothing is done' if found['dry_run'] else ''}"]
    if found["clock_off"]:
        text.append("THE CLOCK of the replica that tells this is off the database's: ages and times to come are wrong")
    text.append(f"who is next ({found['next_total']}):")
    for one in found["next"]:
        slots, deadline = counted(one["slots"], "slot"), _until(one["not_before"], at)
        warned = f"warned {_ago(one['delivered_at'], at)}" if one["delivered_at"] else "warning not delivered"
        text.append(f"  {one['user_name']} of {one['model_name']}: {slots}, {one['state']}, {warned}, due {deadline}")
    if (more := found["next_total"] - len(found["next"])) > 0:
        text.append(f"  and {more} more, later")
    for one in found["surges"]:
        text.append(f"surge of {one['kind']}s, begun {_ago(one['since'], at)}: {_allowed(one)}")
        text += [f"  held back: user {user['user_id']} of {user['model_name']}" for user in one["held"]]
        text += [f"  and {more} more"] if (more := one["held_total"] - len(one["held"])) else []
    text.append("jobs:")
    for job in found["jobs"]:
        by = f"by {job['paused_by'] or 'somebody'}: {job['paused_reason'] or 'no reason given'}"
        paused = f", PAUSED {_ago(job['paused_at'], at)} {by}"
        last = f"{job['state']} {_ago(job['started_at'], at)}" if job["started_at"] else "never run"
        text.append(f"  {job['name']}: {last}{paused if job['paused'] else ''}")
    enough = f", {counted(found['without_enough'], 'model')} without enough" if found["without_enough"] else ""
    text.append(f"fleet: {counted(found['models_total'], 'model')}, {counted(found['replicas'], 'replica')}{enough}")
    for one in found["commands"]:
        text.append(f"  {one['kind']} {one['model_name']}: {one['state']}, planned {_ago(one['planned_at'], at)}")
    for one in found["targets"]:
        marks = "".join(f", {mark}" for mark in ("stale", "silent") if one[mark])
        read = "never read" if one["read_at"] is None else f"read {duration(one['age_seconds'])} ago{marks}"
        text.append(f"  {one['target']}: {read}")
    text += [f"  left alone: {name}" for name in found["left_alone"]]
    text.append(f"events that wait: {found['events_total']}")
    return "\n".join(map(printable, text))
