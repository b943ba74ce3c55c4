"""How values read to people."""

from __future__ import annotations

from datetime import UTC, datetime


def printable(name: str) -> str:
    """A name as people can read it: quoted if it holds newlines or the like (F39)."""
    return name if name.isprintable() else repr(name)


def megabytes(size: int) -> str:
    """Bytes as ``12.3 MB``; small ones as ``123 B``."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} B"


def count(files: int) -> str:
    """``1 file`` or ``8 files``."""
    return f"{files:,} file{'' if files == 1 else 's'}"


def span(seconds: float) -> str:
    """A span of time in words: ``45 s``, ``12 min``, ``2 h 5 min``, ``3 d 4 h``."""
    left = max(0, int(seconds))
    if left < 60:
        return f"{left} s"
    minutes = round(left / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def timestamp(seconds: float) -> str:
    """A moment in seconds since the epoch as RFC 3339, in UTC."""
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: str) -> float:
    """A time as RFC 3339, in seconds since the epoch."""
    return datetime.fromisoformat(at).timestamp()
