"""The settings of the fault suite: the policy's durations are short, those of the locks are the defaults.

So the times measured are those of a deployment.
"""

LIMIT, LEAD = 14, 6  # seconds
INTERVAL = 1.0  # seconds between two runs of each job
SAGA_SECONDS = 1.0
SAGA_TIMEOUT, TELL = 8.0, 5.0  # seconds
HTTP_TIMEOUT = 1.0  # seconds
LONGEST_RUN = 12.0  # seconds that a run may take while nothing is broken
GUARD = 60  # seconds
SETTINGS = {
    "RPS_CHECK_INTERVAL_SECONDS": INTERVAL,
    "IDLE_WARNING_INTERVAL_SECONDS": INTERVAL,
    "IDLE_ENFORCE_INTERVAL_SECONDS": INTERVAL,
    "SAGA_POLL_INTERVAL_SECONDS": INTERVAL,
    "EVENT_DISPATCH_INTERVAL_SECONDS": 0.5,
    "SCALE_UP_WINDOW_SECONDS": 4,
    "SCALE_DOWN_WINDOW_SECONDS": 6,
    "SCALE_UP_STABILIZATION_SECONDS": 1,
    "SCALE_DOWN_STABILIZATION_SECONDS": 3,
    "SCALE_COOLDOWN_SECONDS": 1,
    "COMMAND_BACKOFF_FIRST_SECONDS": 1,
    "COMMAND_BACKOFF_LONGEST_SECONDS": 4,
    "SAGA_TIMEOUT_SECONDS": SAGA_TIMEOUT,
    "IDLE_LIMIT_SECONDS": LIMIT,
    "IDLE_WARNING_LEAD_SECONDS": LEAD,
    "IDLE_SURGE_MIN": 1000,  # all users but two are idle here, and that is no wrong reading
    "UNBOOKING_ROW_GAP_SECONDS": 5,
    "UNINSTALL_ON_IDLE": "true",
    "UNINSTALL_GUARD_SECONDS": GUARD,
    "UNINSTALL_TELL_SECONDS": TELL,
    "USER_EMAIL_TEMPLATE": "{user_name}@example.org",
    "HTTP_TIMEOUT_SECONDS": HTTP_TIMEOUT,
    "HTTP_CIRCUIT_REST_SECONDS": 1,
    "EVENT_RETRY_FIRST_SECONDS": 0.2,
    "EVENT_RETRY_LONGEST_SECONDS": 1,
    "DATABASE_TIMEOUT_SECONDS": 2,
    "RABBITMQ_TIMEOUT_SECONDS": 2,
    "LOG_LEVEL": "DEBUG",
}
