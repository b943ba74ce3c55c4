"""What is a directory's own: its URL, and how rclone reaches it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, ClassVar

from mountkit.errors import UsageError
from mountkit.spec import Source, StoreOptions
from mountkit.store import rclone_names
from mountkit.store.base import RcloneRemote
from mountkit.store.file.store import CONFIGURATION, FileStore, refused_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.timing import Deadline

EXAMPLE = "Give an absolute path after three slashes, such as file:///lustre/me/run-1."


class FileProvider:
    """``file://``; see :class:`mountkit.store.base.Provider`."""

    variables: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    file_variables: ClassVar[tuple[str, ...]] = ()
    credentials: ClassVar[str] = "the rights of the user who runs mountkit"
    daemon_credentials: ClassVar[str] = "the rights of the user who runs mountkit"
    rclone_owned: ClassVar[frozenset[str]] = frozenset()

    def parse(self, url: str) -> Source:
        """``file:///path``."""
        scheme, _, rest = url.partition("://")
        if not rest.startswith("/"):
            raise UsageError(f"{url!r} names no absolute path.", hint=EXAMPLE)
        segments = [segment for segment in rest.split("/") if segment]
        if any(segment in {".", ".."} for segment in segments):
            raise UsageError(f"{url!r} has '.' or '..' in its path.", hint=EXAMPLE)
        if not segments:
            raise UsageError(f"{url!r} is the whole machine.", hint=EXAMPLE)
        if any(character in rclone_names.SPECIAL for character in "".join(segments)):
            raise UsageError(
                f"{url!r} has a character in its path that rclone writes in another way.",
                hint=EXAMPLE,
            )
        return Source(scheme, "", "/".join(segments))

    def refusal_in(self, text: str) -> float | None:
        """By the words of the error."""
        return refused_in(text)

    def options(self, given: StoreOptions, environment: Mapping[str, str]) -> StoreOptions:  # noqa: ARG002
        """None: there is nothing to say of a directory but its path."""
        return StoreOptions()

    def environment(self, options: StoreOptions) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing."""
        return {}

    def open(
        self,
        source: Source,
        options: StoreOptions,  # noqa: ARG002
        *,
        patience: float | None = None,
        deadline: Deadline | None = None,
    ) -> FileStore:
        """The directory; an rclone that lists and reads it is started by the first question."""
        return FileStore(source, patience=patience, deadline=deadline)

    def rclone_remote(
        self,
        source: Source,
        options: StoreOptions,  # noqa: ARG002
        tag: tuple[str, str],  # noqa: ARG002
    ) -> RcloneRemote:
        """By its path."""
        return RcloneRemote(CONFIGURATION, source.directory, "")

    def list_command(self, url: str) -> str:
        """With what every machine has."""
        return f"ls -lR {shlex.quote(self.parse(url).directory)}"

    def delete_command(self, url: str) -> str:
        """With what every machine has."""
        return f"rm -r {shlex.quote(self.parse(url).directory)}"
