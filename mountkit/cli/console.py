"""What a command says on stderr while it works: lines and a bar for people, or JSON for a log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from mountkit import events
from mountkit.formatting import count, megabytes, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.errors import MountkitError
    from mountkit.events import Event

BETWEEN_LINES_SECONDS = 5.0

LEVELS: Mapping[type, str] = {
    events.Problem: "warning",
    events.MountLost: "warning",
    events.MountFailed: "error",
    events.LeaseLost: "error",
}


class _Log:
    """Whether stderr is for people or for a log; one choice for the whole process."""

    as_json = False


def use(log_format: str) -> None:
    """Choose what stderr gets from now on: ``human`` or ``json``, one object a line."""
    _Log.as_json = log_format == "json"
    logger = logging.getLogger("mountkit")
    for handler in [one for one in logger.handlers if isinstance(one, _Handler)]:
        logger.removeHandler(handler)
    logger.propagate = not _Log.as_json
    if _Log.as_json:
        logger.addHandler(_Handler())


def use_early(given: str | None) -> None:
    """The same before the settings are read: what is wrong with them is to be told, too."""
    use(given or os.environ.get("MOUNTKIT_LOG_FORMAT", "human"))


def _echo(text: str, *, nl: bool = True) -> None:
    """Write to stderr, at once, so that lines of several threads do not mix.

    Whoever read it may be gone; the bytes that are on their way may not.
    """
    with contextlib.suppress(OSError):
        click.echo(text, err=True, nl=nl)


def flush() -> None:
    """Before the end: what nobody reads must not become Python's own exit code, which is 120."""
    if sys.stderr is None:
        # It was closed before the start.
        return
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def say(text: str, level: str = "info") -> None:
    """A line for people; in a log, an event called ``Message``."""
    _echo(_line(text, level))


def at_once(text: str) -> None:
    """The same from a signal's handler, which may interrupt a ``say``."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{_line(text, 'info')}\n".encode())


def _line(text: str, level: str) -> str:
    return (
        _json({"event": "Message", "message": text}, level) if _Log.as_json else f"mountkit: {text}"
    )


def fail(error: MountkitError) -> None:
    """What happened and what to do next; in a log, an event called ``Error``."""
    if _Log.as_json:
        fields = {"code": error.exit_code, "message": error.message, "hint": error.hint}
        _echo(_json({"event": "Error", **fields}, "error"))
        return
    _echo(f"mountkit: {error.message}")
    if error.hint:
        _echo(f"  {error.hint}")


def _json(fields: Mapping[str, object], level: str) -> str:
    return json.dumps({"time": timestamp(time.time()), "level": level, **fields})


class _Handler(logging.Handler):
    """What the package itself logs goes into the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        message = record.getMessage().removeprefix("mountkit: ")
        fields = {"event": "Message", "message": message}
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        _echo(_json(fields, record.levelname.lower()))


class Console:
    """An observer that prints. A waiting line on a terminal is rewritten in place."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty() and not _Log.as_json
        self._line = False
        self._said_at = 0.0
        self._most = 0

    def __call__(self, event: Event) -> None:
        """Print what the event says, if people want to know it."""
        if isinstance(event, events.UploadProgress):
            self._wait(event)
            return
        text = describe(event)
        if text:
            self.clear()
            _tell(event, text)

    def clear(self) -> None:
        """End a line that is being rewritten."""
        if self._line:
            _echo("\r\x1b[K", nl=False)
            self._line = False

    def _wait(self, event: events.UploadProgress) -> None:
        self._most = max(self._most, event.size)
        text = f"{event.reason}: {count(event.files)}, {megabytes(event.size)} to go"
        if self._terminal:
            done = 1.0 - event.size / self._most if self._most else 0.0
            bar = "#" * round(20 * done)
            _echo(f"\r\x1b[Kmountkit: [{bar:<20}] {text}", nl=False)
            self._line = True
        elif time.monotonic() - self._said_at > BETWEEN_LINES_SECONDS:
            self._said_at = time.monotonic()
            _tell(event, text)


def _tell(event: Event, text: str) -> None:
    if _Log.as_json:
        fields = {**events.to_json(event), "message": text}
        _echo(_json(fields, LEVELS.get(type(event), "info")))
    else:
        say(text)


def describe(event: Event) -> str:
    """The event in words, or "" if it is too small to be told."""
    match event:
        case events.CheckpointProven(step, files, size, seconds):
            return f"checkpoint-{step} proven: {count(files)}, {megabytes(size)}, {seconds:.1f} s"
        case events.CheckpointRemoved(step):
            return f"checkpoint-{step} removed: a newer one is proven"
        case events.Problem(reason):
            return reason
        case events.MountLost(reason):
            return f"the mount is lost: {reason}; mounting again"
        case events.Remounted(_, seconds):
            return f"mounted again after {seconds:.1f} s"
        case events.MountFailed(reason):
            return f"the mount cannot be repaired: {reason}"
        case events.LeaseLost(reason):
            return f"the lease of the run is lost, and the mount is ended: {reason}"
        case events.EndpointStarted(url):
            return f"health and metrics at {url} (/healthz, /readyz, /metrics)"
        case _:
            return ""
