"""Starts one replica of rps-limiter; everything it needs to know is in its environment."""

import gc
import os
import signal
import sys

# Process 1 of a container is not ended by a SIGTERM that has no handler, and the imports take two seconds. Nothing has
# begun that would have to be ended; and what a handler raises is lost where Python hears of no exception (`__del__`).
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: os._exit(0))

# Imports leave hardly any garbage: to look for it again and again, the more there is, took a quarter of the start.
gc.disable()

from limiter.app import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    sys.exit(main())
