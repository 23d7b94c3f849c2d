"""What becomes of a connection to RabbitMQ, in words: the driver keeps some of them to itself."""

import asyncio

from aio_pika.connection import make_url
from aio_pika.exceptions import InvalidFrameError
from aiormq.exceptions import ConnectionNotAllowed

NOT_ALLOWED, CLOSED = 530, "Connection.Close"  # of AMQP
NO_VHOST = "RabbitMQ lets nobody in: there is none of this name, the user may not enter it, or it is full"
SILENT = "RabbitMQ was silent for too long, its heartbeats too"


def in_words(error: BaseException, url: str) -> BaseException:
    """The error by which a connection to the URL was lost or did not come about, or one that says more."""
    if isinstance(error, asyncio.CancelledError):  # of what the driver does, by the driver
        return ConnectionError(SILENT)
    if isinstance(error, InvalidFrameError) and CLOSED in str(error):  # while it opens a virtual host, the last step
        host = make_url(url).path[1:] or "/"
        return ConnectionNotAllowed(NOT_ALLOWED, f"virtual host {host!r}: {NO_VHOST}")
    return error
