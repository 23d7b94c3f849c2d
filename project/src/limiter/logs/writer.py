"""Writes the lines of the log in a thread of its own, and says so if nobody reads them."""

import os
import queue
import select
import threading
import time

from loguru import logger

WAITING_LINES = 10_000  # that are kept while nobody reads; later ones are dropped, and counted
UNREAD_SECONDS = 5.0  # to write one line, after which it is said that nobody reads
LAST_LINES_SECONDS = 2.0  # to wait at the end for somebody to read


class Writer:
    """Writes lines to standard error, as fast as somebody reads them."""

    def __init__(self) -> None:
        self.dropped = 0
        self._since: float | None = None  # when the line began that is being written
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_LINES)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            self._since = time.monotonic()
            written = _written(line)
            self._since = None
            if not written:
                self.dropped += 1
            elif self.dropped and self._lines.qsize() < WAITING_LINES / 2:
                dropped, self.dropped = self.dropped, 0
                logger.bind(event="log_dropped", lines=dropped).warning("{} lines of the log were dropped", dropped)

    def problem(self) -> str | None:
        """What is wrong, in words; None if somebody reads."""
        since = self._since
        if not self._thread.is_alive():
            return "the log of this replica is not written any more: what writes it has ended"
        if self.dropped or (since is not None and time.monotonic() - since > UNREAD_SECONDS):
            return f"nobody reads the log of this replica: {self._lines.qsize()} lines wait, {self.dropped} are dropped"
        return None

    def close(self) -> None:
        """Let what waits be written, but wait for no reader."""
        try:
            self._lines.put(None, timeout=LAST_LINES_SECONDS)
        except queue.Full:
            return
        self._thread.join(LAST_LINES_SECONDS)


def _written(line: str) -> bool:
    """Write it all; false if it cannot be written, or nobody can read it any more."""
    try:
        # Half of a surrogate pair, which a name may have, is no UTF-8; escaped so it is JSON as before.
        _write_all(line.encode(errors="backslashreplace"))
    except (OSError, ValueError, MemoryError):
        return False
    return True


def _write_all(line: bytes) -> None:
    # Not through sys.stderr: its lock, kept by a thread that waits, would break the end of the process.
    while line:
        try:
            line = line[os.write(2, line) :]
        except BlockingIOError:
            select.select([], [2], [])
