"""What is rclone's own: URLs of its remotes, variables, and how a mount is told of one."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from mountkit.errors import UsageError
from mountkit.spec import Source, StoreOptions
from mountkit.store.base import RcloneRemote
from mountkit.store.remote import configuration, errors
from mountkit.store.remote.store import RcloneStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.timing import Deadline

EXAMPLE = "Give the name of a remote and a path, such as rclone://my-remote/run-1."
# By the type of a remote, what a mount does without unless it is asked for. rclone would have the
# server of sftp run a program for the hash of each file that it has uploaded; that is what the
# proof does.
MOUNTED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"sftp": MappingProxyType({"disable_hashcheck": "true"})}
)
# What rclone would take for more than a name: an option, or a remote made up on the spot.
NAME = re.compile(r"[\w.+@][\w.+@ -]*")


class RcloneProvider:
    """``rclone://``; see :class:`mountkit.store.base.Provider`."""

    variables: ClassVar[re.Pattern[str]] = re.compile(r"SSH_AUTH_SOCK|RCLONE_CONFIG")
    file_variables: ClassVar[tuple[str, ...]] = ("RCLONE_CONFIG",)
    credentials: ClassVar[str] = "a remote in the configuration of rclone (rclone config)"
    daemon_credentials: ClassVar[str] = "the configuration of rclone, and RCLONE_*"
    rclone_owned: ClassVar[frozenset[str]] = frozenset()
    store: ClassVar[type[RcloneStore]] = RcloneStore

    def parse(self, url: str) -> Source:
        """``rclone://REMOTE/path``; with two slashes the path begins at the root of the server."""
        scheme, _, rest = url.partition("://")
        name, _, path = rest.partition("/")
        name = name.removesuffix(":")
        if not name:
            raise UsageError(f"{url!r} names no remote.", hint=EXAMPLE)
        if not NAME.fullmatch(name):
            raise UsageError(
                "The source URL does not begin with the name of a remote of rclone. Options and "
                "credentials in it would end up in logs.",
                hint=f"{EXAMPLE} To make a remote: rclone config",
            )
        segments = [segment for segment in path.split("/") if segment]
        if any(segment in {".", ".."} for segment in segments):
            raise UsageError(f"{url!r} has '.' or '..' in its path.", hint=EXAMPLE)
        root = "/" if path.startswith("/") and segments else ""
        return Source(scheme, name, root + "/".join(segments))

    def refusal_in(self, text: str) -> float | None:
        """By the words of the error."""
        return errors.refused_in(text)

    def options(self, given: StoreOptions, environment: Mapping[str, str]) -> StoreOptions:  # noqa: ARG002
        """None: the URL and the configuration of rclone say all of it."""
        return StoreOptions()

    def environment(self, options: StoreOptions) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing: what a daemon needs is in its configuration."""
        return {}

    def open(
        self,
        source: Source,
        options: StoreOptions,  # noqa: ARG002
        *,
        patience: float | None = None,
        deadline: Deadline | None = None,
    ) -> RcloneStore:
        """A place on a remote; an rclone is started by the first question."""
        return self.store(source, patience=patience, deadline=deadline)

    def rclone_remote(
        self,
        source: Source,
        options: StoreOptions,  # noqa: ARG002
        tag: tuple[str, str],  # noqa: ARG002
    ) -> RcloneRemote:
        """The user's own configuration, read when a daemon starts; it may hold any secret."""
        return RcloneRemote({}, source.prefix, "", private=lambda: _sections(source.bucket))

    def list_command(self, url: str) -> str:
        """With rclone."""
        return f"rclone lsl {_place(url)}"

    def delete_command(self, url: str) -> str:
        """With rclone."""
        return f"rclone purge {_place(url)}"


def _sections(name: str) -> Mapping[str, Mapping[str, str]]:
    """The configuration of a remote for a mount."""
    remote = configuration.read(name)
    return {**remote.sections, "": {**MOUNTED.get(remote.type, {}), **remote.sections[""]}}


def _place(url: str) -> str:
    """A URL in rclone's words."""
    name, _, path = url.partition("://")[2].partition("/")
    return f"{name}:{path}"
