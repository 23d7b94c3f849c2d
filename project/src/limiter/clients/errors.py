"""What can go wrong with a call to an external service, sorted by what the caller does about it.

ServiceError
|-- Unavailable       no answer, or a 5xx: try again later
|   `-- NotSent       the request certainly never reached the service
|       `-- CircuitOpen   it was not even tried: the service has been failing
|-- Rejected          a 4xx: the service will not do it; a person must look
|   |-- NotAllowed    401 or 403: not with this token; the same call may do with another
|   `-- NotFound      404: there is no such thing
`-- ContractBroken    the answer does not fit the contract; a person must look
"""

# Too early, too much at once, and what is to be done elsewhere: not 302 and 303, which may tell of what was done here.
UNDONE = (301, 307, 308, 425, 429)


class ServiceError(Exception):
    """A call to an external service did not bring what it should; `service` is its name, `status` its answer's.

    `retry_after` are the seconds for which it wants to be left alone; `unsure` says that an earlier attempt of the same
    call may have been carried out.
    """

    def __init__(
        self, detail: str, service: str = "service", status: int | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(detail)
        self.service = service
        self.status = status
        self.retry_after = retry_after
        self.unsure = False

    @property
    def undone(self) -> bool:
        """Whether it says that nothing was done: not sent, refused, or `UNDONE`."""
        return not self.unsure and (isinstance(self, NotSent | Rejected) or self.status in UNDONE)

    @property
    def reason(self) -> str:
        """The label under which this error is counted, such as booking_unavailable."""
        return f"{self.service}_{_LABELS[type(self)]}"


class Unavailable(ServiceError):
    """No answer, or one that says the service is broken: try again later. Whether it acted is not known."""


class NotSent(Unavailable):
    """The service could not be reached at all, so it cannot have acted."""


class CircuitOpen(NotSent):
    """The service has been failing and is left alone for a while."""


class Rejected(ServiceError):
    """The service understood and refused; repeating it would change nothing."""


class NotAllowed(Rejected):
    """The service refuses us, not what we ask for: it may be asked again once the token is right."""


class NotFound(Rejected):
    """The service knows no such thing."""


class ContractBroken(ServiceError):
    """The answer does not fit the contract."""


_LABELS: dict[type[ServiceError], str] = {
    ServiceError: "failed",
    Unavailable: "unavailable",
    NotSent: "unavailable",
    CircuitOpen: "unavailable",
    Rejected: "rejected",
    NotAllowed: "rejected",
    NotFound: "rejected",
    ContractBroken: "contract_broken",
}
