"""Do something in a process of its own, so that what it loads is not kept for the days of a run."""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from mountkit.errors import MountkitError, MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    Result = TypeVar("Result")

BLOCK_BYTES = 65536


def run_isolated(work: Callable[[], Result], timeout: float) -> Result:
    """What ``work`` returns, done in a forked child; only while this process has one thread.

    Raises what ``work`` raises of ours; MountUnavailableError if it takes more than ``timeout``
    seconds, or ends without a word; RuntimeError for whatever else ``work`` raises, with its kind
    and text, caused by its traceback.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _tell(writer, work)
    os.close(writer)
    try:
        answer = _read(reader, time.monotonic() + timeout)
    finally:
        os.close(reader)
        # It has nothing more to say, or is too late.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answer:
        why = (
            f"The store could not be looked at within {timeout:.0f} s."
            if answer is None
            else "The process that looked at the store ended without a word."
        )
        raise MountUnavailableError(why, hint="See what is wrong with it: mountkit doctor")
    found, error, cause = pickle.loads(answer)  # noqa: S301 - our own child wrote it
    if error is not None:
        raise error from (_ForeignError(cause) if cause else None)
    result: Result = found
    return result


class _ForeignError(Exception):
    """Stands for an error of the child that is not ours: nobody knows whether it can be carried."""


def _tell(writer: int, work: Callable[[], Any]) -> NoReturn:
    """The child's whole life."""
    status = 1
    try:
        try:
            answer = pickle.dumps((work(), None, ""))
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answer = _carried(error)
        with os.fdopen(writer, "wb") as stream:
            stream.write(answer)
        status = 0
    finally:
        # Not the parent's clean-up a second time.
        os._exit(status)


def _carried(error: Exception) -> bytes:
    """What the parent raises: the error itself, if it is one of ours that can be carried."""
    if isinstance(error, MountkitError):
        with suppress(pickle.PicklingError, AttributeError, TypeError):
            return pickle.dumps((None, error, ""))
    told = RuntimeError(f"{type(error).__name__}: {error}")
    return pickle.dumps((None, told, "".join(traceback.format_exception(error))))


def _read(reader: int, deadline: float) -> bytes | None:
    """All that is written until the other end is closed; None if that is too late."""
    answer = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return None
        part = os.read(reader, BLOCK_BYTES)
        if not part:
            return answer
        answer += part
