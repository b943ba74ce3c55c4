"""One mount as people read it: where it is, how it does, and what is safe."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.text import Text

from mountkit.formatting import count, megabytes, moment, printable, span
from mountkit.monitoring.snapshot import BROKEN
from mountkit.state.record import FAILED, REPAIRING, SERVING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mountkit.monitoring.snapshot import Amount, Overview

STYLES = {SERVING: "green", FAILED: "bold red", BROKEN: "bold red"}
MARGIN = "  "
LABELS = len("last proven") + 2
NARROWEST = 20


def card(mount: Overview, now: float, width: int | None) -> Text:
    """Some lines of at most ``width`` columns, or of any length if that is None.

    ``now`` in seconds since the epoch.
    """
    text = Text(mount.record.spec.target, style="bold")
    for label, value in rows(mount, now):
        style = STYLES.get(mount.state, "yellow") if label == "state" else ""
        first, *rest = _wrap(value, width)
        text.append(f"\n{MARGIN}{label:<{LABELS}}", style="not bold dim")
        text.append(first, style=f"not bold {style}".rstrip())
        for line in rest:
            text.append(f"\n{MARGIN}{'':<{LABELS}}{line}", style="not bold")
    return text


def rows(mount: Overview, now: float) -> Iterator[tuple[str, str]]:
    """A label and a value each."""
    record, proof_stats = mount.record, mount.proof_stats
    yield "state", _state(mount, now)
    yield "source", record.spec.source.url
    yield "backend", record.spec.backend
    yield "remounts", f"{record.remounts}, last: {record.reason}" if record.remounts else "none"
    yield "to upload", _amount(mount.pending, mount.unknown)
    yield "unproven", _amount(mount.unproven, mount.unknown)
    last = proof_stats.proven
    tries = "try" if proof_stats.failures == 1 else "tries"
    failed = f"; {proof_stats.failures} {tries} failed" if proof_stats.failures else ""
    said = f"{printable(last.checkpoint)}, {ago(last.at, now)}" if last else "nothing yet"
    yield "last proven", said + failed
    if mount.last_error is None:
        yield "last error", "none"
    else:
        when = ago(mount.last_error.at, now)
        words = printable(" ".join(mount.last_error.message.split()))
        yield "last error", f"{when}{', before the last proof' if mount.settled else ''}: {words}"


def _state(mount: Overview, now: float) -> str:
    record = mount.record
    lasts = span(now - moment(record.since))
    if mount.state == BROKEN:
        return f"broken: nobody looks after it. Next: mountkit umount {record.spec.target}"
    if mount.state == FAILED:
        return f"given up {lasts} ago: {record.reason}"
    if mount.supervisor_pid is None:
        return f"{mount.state}, but nobody looks after it. Next: the same mountkit mount again"
    if mount.state == REPAIRING and record.state == REPAIRING:
        return f"repairing for {lasts}: {record.reason}"
    if mount.state == REPAIRING:
        return "repairing"
    return f"{mount.state} for {lasts}"


def ago(at: str, now: float) -> str:
    """How long ago a moment (RFC 3339) was, in words."""
    return f"{span(now - moment(at))} ago"


def _amount(amount: Amount | None, unknown: str) -> str:
    if amount is None:
        return f"not known: {unknown}"
    return f"{count(amount.files)}, {megabytes(amount.size)}" if amount.files else "nothing"


def _wrap(value: str, width: int | None) -> list[str]:
    if width is None:
        return [value]
    room = max(NARROWEST, width - len(MARGIN) - LABELS)
    return textwrap.wrap(value, room, break_on_hyphens=False) or [""]
