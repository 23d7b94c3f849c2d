"""The closed lists of labels: every label set is there from the start, with 0."""

from limiter.domain.decision import Decision, Reason
from limiter.domain.usage import ScrapeProblem

KINDS = ("scale_up", "scale_down", "uninstall", "cancel_booking")
PEERS = ("registry", "dispatcher", "booking", "entrypoint")
OUTCOMES = ("completed", "failed", "timeout", "interrupted", "lost")  # of a run
STAGES, SENT = ("warning", "withdrawn", "cancelled", "started"), ("confirmed", "unroutable", "unconfirmed")
STALLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds
RUNS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)  # seconds; the last is the longest run's
CRITICALS = (
    *ScrapeProblem,
    *(f"{service}_{what}" for service in PEERS for what in ("unavailable", "rejected", "contract_broken")),
    "address_unknown",
    "announcement_rejected",
    "cancelled_after_closing",
    "clock_skew",
    "command_answer_lost",
    "command_failed",
    "command_refused",
    "database_full",
    "database_put_back",
    "database_unavailable",
    "event_unconfirmed",
    "event_unroutable",
    "idle_surge",
    "item_failed",
    "rabbitmq_refused",
    "rabbitmq_unavailable",
    "run_failed",
    "run_too_long",
    "saga_status_unknown",
    "saga_stuck",
    "shares_mixed",
)
# Why a cancelling ends before its end.
STOPPED = (Reason.USED_AGAIN, Reason.KEPT, Reason.EXEMPT, Reason.MODE_CHANGED, Reason.BY_OPERATOR)
OF_ACTS = (
    (Decision.SCALE_UP, (Reason.OVERLOADED, Reason.EXPECTED_OVERLOAD, Reason.BURST, Reason.BELOW_MIN)),
    (Decision.SCALE_DOWN, (Reason.UNDERUSED, Reason.ABOVE_MAX)),
    (Decision.WARN, (Reason.UNUSED,)),
    (Decision.CANCEL, (Reason.DEADLINE_PASSED, Reason.REFUSED, *STOPPED)),
    (Decision.UNINSTALL, (Reason.DEADLINE_PASSED,)),
)
WITHDRAWN = (
    Reason.USED_AGAIN,
    Reason.KEPT,
    Reason.EXEMPT,
    Reason.BOOKING_GONE,
    Reason.MODEL_GONE,
    Reason.MODE_CHANGED,
    Reason.NOTHING_TO_CANCEL,
    Reason.BY_OPERATOR,
)
