"""A replica with a wrong clock: `python -m dev.chaos.skewed_replica 3600` runs one that is an hour fast.

SIGUSR1 sets its clock an hour forward, SIGUSR2 an hour back.
"""

import signal
import sys
from datetime import UTC, datetime, timedelta

from freezegun import freeze_time

from limiter.app import main

HOUR = timedelta(hours=1)

if __name__ == "__main__":
    with freeze_time(datetime.now(UTC) + timedelta(seconds=float(sys.argv[1])), tick=True, real_asyncio=True) as clock:
        signal.signal(signal.SIGUSR1, lambda *_: clock.move_to(datetime.now(UTC) + HOUR))
        signal.signal(signal.SIGUSR2, lambda *_: clock.move_to(datetime.now(UTC) - HOUR))
        sys.exit(main())
