"""A replica with a wrong clock: `python -m dev.chaos.skewed_replica 3600` runs one that is an hour fast."""

import sys
from datetime import UTC, datetime, timedelta

from freezegun import freeze_time

from limiter.app import main

if __name__ == "__main__":
    with freeze_time(datetime.now(UTC) + timedelta(seconds=float(sys.argv[1])), tick=True, real_asyncio=True):
        sys.exit(main())
