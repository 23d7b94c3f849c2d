"""The names of the jobs."""

from enum import StrEnum


class Job(StrEnum):
    """The independent jobs; the values are their names in messages, metrics and rows."""

    RPS_CHECK = "rps_check"
    IDLE_WARNING = "idle_warning"
    IDLE_ENFORCE = "idle_enforce"
    SAGA_POLL = "saga_poll"
    EVENT_DISPATCH = "event_dispatch"
    CLEANUP = "cleanup"
