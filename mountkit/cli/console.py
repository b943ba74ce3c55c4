"""What people see on stderr while a command works: a line an event, a bar on a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from mountkit import events

if TYPE_CHECKING:
    from mountkit.events import Event

BETWEEN_LINES_SECONDS = 5.0


def say(text: str) -> None:
    """A line for people."""
    click.echo(f"mountkit: {text}", err=True)


def megabytes(size: int) -> str:
    """Bytes as ``12.3 MB``; small ones as ``123 B``."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} B"


def count(files: int) -> str:
    """``1 file`` or ``8 files``."""
    return f"{files:,} file{'' if files == 1 else 's'}"


class Console:
    """An observer that prints. A waiting line on a terminal is rewritten in place."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._line = False
        self._said_at = 0.0
        self._most = 0

    def __call__(self, event: Event) -> None:
        """Print what the event says, if people want to know it."""
        if isinstance(event, events.Waiting):
            self._wait(event)
            return
        text = describe(event)
        if text:
            self.clear()
            say(text)

    def clear(self) -> None:
        """End a line that is being rewritten."""
        if self._line:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._line = False

    def _wait(self, event: events.Waiting) -> None:
        if not event.files:
            return
        self._most = max(self._most, event.size)
        text = f"{event.reason}: {count(event.files)}, {megabytes(event.size)} to go"
        if self._terminal:
            done = 1.0 - event.size / self._most if self._most else 0.0
            bar = "#" * round(20 * done)
            click.echo(f"\r\x1b[Kmountkit: [{bar:<20}] {text}", err=True, nl=False)
            self._line = True
        elif time.monotonic() - self._said_at > BETWEEN_LINES_SECONDS:
            self._said_at = time.monotonic()
            say(text)


def describe(event: Event) -> str:
    """The event in words, or "" if it is too small to be told."""
    match event:
        case events.CheckpointProven(step, files, size, seconds):
            return f"checkpoint-{step} proven: {count(files)}, {megabytes(size)}, {seconds:.1f} s"
        case events.CheckpointRemoved(step):
            return f"checkpoint-{step} removed: a newer one is proven"
        case events.Trouble(reason):
            return reason
        case events.MountLost(reason):
            return f"the mount is lost: {reason}; mounting again"
        case events.Remounted(_, seconds):
            return f"mounted again after {seconds:.1f} s"
        case events.MountGivenUp(reason):
            return f"the mount cannot be repaired: {reason}"
        case _:
            return ""
