"""Which models this deployment minds, where several share one platform."""

from typing import NamedTuple
from zlib import crc32


class Shard(NamedTuple):
    """Share `number` of `of`: the models whose name's CRC-32 (of its UTF-8 bytes), modulo `of`, is `number`."""

    number: int = 0
    of: int = 1

    def minds(self, name: str) -> bool:
        """Whether models of this name are minded here; all of one name are, since they share its calls."""
        return self.of == 1 or self.of_name(name) == self.number

    def of_name(self, name: str) -> int:
        """Which share minds models of this name."""
        return crc32(name.encode()) % self.of

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


EVERY_MODEL = Shard()
