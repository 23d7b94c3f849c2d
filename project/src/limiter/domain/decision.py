"""What is decided and why: the words that logs, metrics and rows share."""

from enum import StrEnum


class Decision(StrEnum):
    """What is done about one model, or about one user's booking of it."""

    HOLD = "hold"
    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    WARN = "warn"
    WITHDRAW = "withdraw"
    CANCEL = "cancel"
    UNINSTALL = "uninstall"


class Reason(StrEnum):
    """Why it is decided so: a closed list, since it is a metric label, a log field and a column."""

    # scaling
    OVERLOADED = "overloaded"  # RPS per replica stayed above target and tolerance for the whole stabilization
    EXPECTED_OVERLOAD = "expected_overload"  # the load grows so that it will be overloaded when replicas are ready
    BURST = "burst"  # the last tick alone shows far more than the replicas should carry
    UNDERUSED = "underused"  # fewer replicas would still have headroom, for the whole stabilization
    BELOW_MIN = "below_min"  # fewer replicas than the configured minimum
    ABOVE_MAX = "above_max"  # more replicas than the configured maximum
    WITHIN_TARGET = "within_target"  # neither too much nor too little
    STABILIZING = "stabilizing"  # overloaded or underused, but not for the whole stabilization yet
    AT_MAX = "at_max"  # overloaded, and the maximum is reached
    FLEET_FULL = "fleet_full"  # the budget leaves no replica for it
    COMMANDS_LIMIT = "commands_limit"  # this run sends as many commands as it may, to models that are more overloaded
    COMMAND_UNFINISHED = "command_unfinished"  # an earlier command for this model still runs
    COOLING_DOWN = "cooling_down"  # an earlier scale finished a moment ago
    BACKING_OFF = "backing_off"  # earlier commands for this model failed
    # both
    REQUESTS_IN_FLIGHT = "requests_in_flight"  # underused, but a scale down could cut requests off
    READING_UNKNOWN = "reading_unknown"  # no trustworthy reading: unknown is not zero
    EXEMPT = "exempt"  # the operator took this model out of the policy
    KEPT = "kept"  # somebody asked to keep the bookings of this model, or this user's
    # idleness
    IN_USE = "in_use"  # not unused for long enough to warn
    UNUSED = "unused"  # no call for N - Y
    NOTHING_TO_CANCEL = "nothing_to_cancel"  # nothing is left at the deadline, and nothing can be freed
    NOT_SEEN_RUNNING = "not_seen_running"  # rps_check has not yet recorded since when the model runs
    BETWEEN_SLOTS = "between_slots"  # in the short gap between two slots of one row
    BOOKINGS_UNREADABLE = "bookings_unreadable"  # a booking of this model could not be understood
    ADDRESS_UNKNOWN = "address_unknown"  # the user's e-mail address has not been learned yet
    WARNING_UNDELIVERED = "warning_undelivered"  # the broker has not confirmed the warning yet
    WARNED_WAITING = "warned_waiting"  # warned, and the deadline has not come
    DEADLINE_PASSED = "deadline_passed"  # unused for N, and warned at least Y ago
    USED_AGAIN = "used_again"  # a call came after the idle spell began
    BOOKING_GONE = "booking_gone"  # the user has no slot of the model any more
    MODEL_GONE = "model_gone"  # the model no longer runs
    RUN_LIMIT = "run_limit"  # this run has cancelled for as many users as it may
    HELD_BY_ANOTHER = "held_by_another"  # not uninstalled: another user's slot of the model runs now
    BOOKED_SOON = "booked_soon"  # not uninstalled: another user's slot starts soon
    MODE_CHANGED = "mode_changed"  # DRY_RUN was switched since the spell began
    REFUSED = "refused"  # the booking service refused to cancel some of the slots
    DELETE_IN_FLIGHT = "delete_in_flight"  # the answer to a DELETE is not known, and it may still be carried out
    QUIET_HOURS = "quiet_hours"  # nobody is warned or cancelled in them
    SURGE = "idle_surge"  # too many turned idle at once: a person must allow it
    KEEPS_SLOT = "keeps_slot"  # not uninstalled: the user's own later slot, which stays, starts soon
    UNINSTALL_LATE = "uninstall_late"  # told as not uninstalled: it took longer than UNINSTALL_TELL_SECONDS
    BY_OPERATOR = "by_operator"  # a person closed the spell, or settled the command
