"""Starts one replica of rps-limiter; everything it needs to know is in its environment."""

import signal
import sys

# Process 1 of a container is not ended by a SIGTERM that has no handler, and the imports take two seconds.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

from limiter.app import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
