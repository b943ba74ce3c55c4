"""Small private JSON files: replaced in one step, so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from mountkit.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def replace(path: Path, content: dict[str, Any]) -> None:
    """Write the whole file anew; nobody else can read it, and no power failure leaves it empty."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("w") as stream:
            json.dump(content, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o600)
        draft.replace(path)
    except BaseException:
        # On a full disk every attempt would leave one, and the room would never be enough.
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def load(path: Path) -> dict[str, Any] | None:
    """What the file holds; None if there is none.

    Raises ConfigurationError if it is no JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}.",
            hint=f"If nothing of yours is mounted, remove it: rm -r {path.parent}",
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no record.", hint=f"Remove it: rm -r {path.parent}")
    return content
