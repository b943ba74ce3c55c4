"""What is a directory's own: its URL, and how rclone reaches it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, ClassVar

from mountkit.errors import UsageError
from mountkit.spec import Source
from mountkit.store import rclone_names
from mountkit.store.base import RcloneRemote
from mountkit.store.file.store import CONFIGURATION, FileStore, refused_in
from mountkit.store.remote.provider import RcloneProvider

if TYPE_CHECKING:
    from mountkit.spec import StoreOptions
    from mountkit.store.remote.store import RcloneStore

EXAMPLE = "Give an absolute path after three slashes, such as file:///lustre/me/run-1."


class FileProvider(RcloneProvider):
    """``file://``: a remote of rclone's that its path says all of."""

    variables: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    file_variables: ClassVar[tuple[str, ...]] = ()
    credentials: ClassVar[str] = "the rights of the user who runs mountkit"
    daemon_credentials: ClassVar[str] = "the rights of the user who runs mountkit"
    store: ClassVar[type[RcloneStore]] = FileStore

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
