"""The verdicts of idle_warning: only what may have changed since its last run here is judged again."""

from limiter.domain.lasting import LastingVerdicts
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.verdict import Verdict


class Verdicts:
    """The verdicts of the last run in this process."""

    def __init__(self) -> None:
        """Nothing was judged yet."""
        self._last = LastingVerdicts()

    def on(self, snapshot: Snapshot) -> dict[BookingKey, Verdict]:
        """What to do about each active booking and each open spell."""
        self._last = self._last.after(snapshot)
        return {key: snapshot.verdict_on(spell) for key, spell in snapshot.prior.spells.items()} | self._last.verdicts()

    def renewed(self, snapshot: Snapshot, key: BookingKey, verdict: Verdict) -> Verdict:
        """The verdict with the numbers of this snapshot."""
        return self._last.renewed(snapshot, key, verdict)
