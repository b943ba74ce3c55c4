"""Find a daemon's program, and see that it is new enough."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mountkit.backends.base import Binary
from mountkit.errors import MountUnavailableError

ASK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Program:
    """A program by name, how to ask for its version, and which is the oldest that will do.

    ``answer`` is the regular expression of the line that tells the version, with two or three
    groups of digits. ``because`` says what the oldest version brought.
    """

    name: str
    ask: str
    answer: str
    minimum: tuple[int, ...]
    because: str
    install: str

    def find(self, *search_paths: str) -> Binary:
        """The first one on the search paths.

        Raises MountUnavailableError if there is none, it does not run, or it is too old.
        """
        found = (shutil.which(self.name, path=path) for path in search_paths)
        path = next(filter(None, found), None)
        if path is None:
            raise MountUnavailableError(f"There is no {self.name} on PATH.", hint=self.install)
        try:
            changed = Path(path).stat().st_mtime_ns
        except OSError as error:
            raise MountUnavailableError(
                f"{path} does not run: {error}.", hint=f"Try: {path} {self.ask}"
            ) from error
        version = self.parse(_said(path, self.ask, changed))
        if version is None:
            # It may have been killed before it said it.
            _said.cache_clear()
            raise MountUnavailableError(
                f"{path} does not say which {self.name} it is.", hint=f"Try: {path} {self.ask}"
            )
        binary = Binary(path, version)
        if version < self.minimum:
            needed = ".".join(str(part) for part in self.minimum[:2])
            raise MountUnavailableError(
                f"{path} is {self.name} {binary.version_text}; mountkit needs {needed} or later, "
                f"{self.because}.",
                hint=self.install,
            )
        return binary

    def parse(self, text: str) -> tuple[int, ...] | None:
        """The version in what the program said, or None."""
        match = re.search(self.answer, text, re.MULTILINE)
        return tuple(int(part or 0) for part in match.groups()) if match else None


@functools.cache
def _said(path: str, ask: str, changed: int) -> str:  # noqa: ARG001 - another program, if it did
    """What a program says of its version: asked once, for rclone takes a tenth of a second."""
    try:
        answer = subprocess.run(
            [path, ask],
            capture_output=True,
            check=False,
            text=True,
            timeout=ASK_SECONDS,
            # The user's own configuration must not matter.
            env={"RCLONE_CONFIG": ""},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MountUnavailableError(
            f"{path} does not run: {error}.", hint=f"Try: {path} {ask}"
        ) from error
    return answer.stdout
