"""What stays wrong with a list that a service serves, though each of its answers can be used."""

from time import monotonic

from limiter.telemetry import Telemetry

# Readings, and seconds: a list that changes while it is read is short once, and nobody's mistake; but jobs that are due
# together, and a cancelling before each of its steps, read it several times in one moment.
IN_A_ROW, LASTING = 3, 5.0


class Flaws:
    """Raises the alarm about a list that stays wrong, and not about one that changed while it was read."""

    def __init__(self, telemetry: Telemetry, service: str, what: str) -> None:
        """Nothing is known to be wrong yet; `what` the list of this service is of."""
        self._telemetry, self._what = telemetry, what
        self._reason = f"{service}_contract_broken"
        self._in_a_row, self._since = 0, 0.0

    def found(self, flaw: str | None) -> None:
        """Note what is wrong with one more reading; None: nothing."""
        if flaw is None:
            self._in_a_row = 0
            self._telemetry.is_over(self._reason)
            return
        now = monotonic()
        if self._in_a_row == 0:
            self._since = now
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW and now - self._since >= LASTING:
            self._telemetry.goes_on(self._reason, f"the list of {self._what}: {flaw}")
