"""A path or URL, and the store it lies in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.config.directories import state_root
from mountkit.errors import ConfigurationError
from mountkit.linux.mount_table import lies_in
from mountkit.mounts.mount import Mount
from mountkit.state.registry import State
from mountkit.store import open_store, parse

if TYPE_CHECKING:
    from mountkit.config.settings import Settings
    from mountkit.spec import Source, StoreOptions
    from mountkit.store.base import Store


@dataclass(frozen=True, slots=True)
class Place:
    """A path or a URL given by a user: where it is in the store, and how to print what is in it."""

    source: Source
    options: StoreOptions
    prefix: str

    @classmethod
    def find(cls, path_or_url: str, settings: Settings) -> Place:
        """Understand a mounted path or a URL.

        Raises ConfigurationError if it is a path in no mount, or leads out of it.
        """
        if "://" in path_or_url:
            source = parse(path_or_url)
            return cls(source, settings.store(source), source.url)
        mount = Mount.containing(path_or_url, State(state_root(settings)))
        if mount is None:
            raise ConfigurationError(
                f"{path_or_url} lies in no mount of mountkit.",
                hint="Mount the bucket first, or give its URL: s3://bucket/prefix",
            )
        inside = followed(mount, mount.relative(path_or_url))
        prefix = str(Path(mount.path) / inside)
        return cls(mount.spec.source.child(inside), mount.spec.store, prefix)

    def store(self) -> Store:
        """The store itself, asked directly."""
        return open_store(self.source, self.options)

    def child(self, name: str) -> str:
        """The path or URL of something directly below."""
        return f"{self.prefix}/{name}"


def followed(mount: Mount, path: str) -> str:
    """Where a path of the mount leads, relative to the mount and without links.

    As it is where no link is in it, or where the mount does not answer.

    Raises ConfigurationError if it leads out of the mount: nothing that is saved there would reach
    the bucket.
    """
    if not backends.load(mount.spec.backend).links:
        return path
    real = mount.real(path)
    if lies_in(real, mount.path):
        return real[len(mount.path) + 1 :]
    raise ConfigurationError(
        f"{mount.path}/{path} is a link that leads out of the mount, to {real}.",
        hint=f"Save below {mount.path}, or remove the link: rm '{mount.path}/{path}'",
    )
