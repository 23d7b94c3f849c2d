"""Starts one replica of rps-limiter; everything it needs to know is in its environment."""

import sys

from limiter.app import main

if __name__ == "__main__":
    sys.exit(main())
