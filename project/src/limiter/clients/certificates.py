"""The certificates of our calls, which may be renewed while we run."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

Version = tuple[int, int, int]


@dataclass
class Certificates:
    """The TLS context of all calls, and the files that it is made of; an empty name is no file.

    What a file no longer has stays trusted until the next start: a context forgets no authority.
    """

    context: ssl.SSLContext
    authorities: str = ""
    ours: str = ""
    _read: dict[str, Version] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._read = self._versions()

    def follow(self) -> None:
        """Read what was renewed: connections made from now on are made with it.

        A file that cannot be read, such as one that is half written, changes nothing until it changes again.
        """
        found = self._versions()
        changed = {file for file, version in found.items() if self._read.get(file) != version}
        self._read |= found
        for file in changed:
            try:
                self._load(file, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # a bad one would spoil what we have
                self._load(file, self.context)
            except OSError as error:
                why = error.strerror or error
                logger.bind(event="certificates_unread").warning("{} is not read, the last one stays: {}", file, why)
            else:
                logger.bind(event="certificates_read").info("{} has changed, and is read", file)

    def _load(self, file: str, context: ssl.SSLContext) -> None:
        if file == self.authorities:
            context.load_verify_locations(file)
        if file == self.ours:
            context.load_cert_chain(file)

    def _versions(self) -> dict[str, Version]:
        return {file: version for file in {self.authorities, self.ours} if (version := _version(file))}


def _version(file: str) -> Version | None:
    """By what a file is known to be another one than before; None if there is none."""
    if not file:
        return None
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
