"""One tree of errors. Each class carries its exit code; each instance says what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mountkit.formatting import printable


class MountkitError(Exception):
    """Base of every error that mountkit raises on purpose.

    Parameters
    ----------
    message:
        What happened, naming the file, the mount or the bucket it happened to.
    hint:
        What to do next, best of all a command to run.

    Attributes
    ----------
    may_pass:
        Of a refusal of the store: for how many seconds it may be one that passes by itself. 0 where
        it is final.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.may_pass = 0.0

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(MountkitError):
    """An argument that makes no sense: a URL that is none, an option mountkit owns itself."""

    exit_code = 2


class MountUnavailableError(MountkitError):
    """The mount cannot be had: a tool is missing, the target in use, the store out of reach."""

    exit_code = 69


class VerificationError(MountkitError):
    """The store does not hold what it should: a file is missing, truncated or altered."""

    exit_code = 74


class NotDurableError(MountkitError):
    """Bytes that were written are not proven to be in the store (yet). ``unproven`` names them."""

    exit_code = 75

    def __init__(
        self, message: str, *, hint: str = "", unproven: tuple[Unproven, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.unproven = unproven


class PermissionDeniedError(MountkitError):
    """The store refused the credentials, or what they may do is not enough."""

    exit_code = 77


class ConfigurationError(MountkitError):
    """A setting is missing or wrong: no credentials, no such bucket, a bucket in another region."""

    exit_code = 78


class WrongNodeError(ConfigurationError):
    """A training that writes the run's manifests past the node that has its lease."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """A file that the store has not attested. ``size`` in bytes, as written."""

    path: str
    size: int
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)} ({self.size:,} bytes): {self.reason}"


class TimeUpError(NotDurableError):
    """The time for a proof was up in the middle of it."""


def public_name(error: MountkitError) -> str:
    """The name in this module of the nearest kind that an error is of: what tells its exit code.

    For another process, which may not have loaded the module of a kind of its own.
    """
    names = (kind.__name__ for kind in type(error).__mro__ if globals().get(kind.__name__) is kind)
    return next(names, MountkitError.__name__)
