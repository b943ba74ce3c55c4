"""The Mountpoint backend: ``mount-s3`` in the foreground. What it closes is in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mountkit.backends.base import Binary, Control, DaemonCommand
from mountkit.backends.executable import Program
from mountkit.errors import UsageError
from mountkit.linux import memory_limit, mount_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mountkit.linux.mount_table import MountEntry
    from mountkit.spec import MountSpec
    from mountkit.timing import Deadline

PROGRAM = Program(
    name="mount-s3",
    ask="--version",
    answer=r"^mount-s3 (\d+)\.(\d+)\.(\d+)",
    minimum=(1, 22, 0),
    because="which waits for an upload when its file is opened again",
    install="Install it as the README says, or use --backend rclone",
)

MIB = 1024 * 1024
# S3's own limit, which makes the part size decide how large a file may become (F16).
PARTS = 10_000
SMALLEST_PART = 8 * MIB
LARGEST_PART = 5 * 1024 * MIB
CRC64_SINCE = (1, 23, 0)
MEMORY_TARGET_SINCE = (1, 24, 0)
SMALLEST_MEMORY = 512 * MIB
# Trainer writes one file after the other; a few more may wait for their last part.
WRITERS = 16
READ_PART = 8 * MIB

OWNED = frozenset(
    {
        "foreground", "prefix", "region", "endpoint-url", "profile", "read-only", "allow-delete",
        "allow-overwrite", "no-log", "part-size", "no-sign-request", "auto-unmount",
    }
)  # fmt: skip


class MountpointBackend:
    """``mount-s3``; see :class:`mountkit.backends.base.Backend`."""

    name: ClassVar[str] = "mountpoint"
    schemes: ClassVar[frozenset[str] | None] = frozenset({"s3"})
    mounts: ClassVar[bool] = True
    unsupported_operations: ClassVar[frozenset[str]] = frozenset(
        {"rmtree", "rename", "chmod", "seek", "append", "symlink", "link", "overwrite-mapped"}
    )
    write_back: ClassVar[bool] = False
    journaled: ClassVar[bool] = True
    links: ClassVar[str] = ""
    # Its log tells of every upload.
    mark: ClassVar[str] = ""

    def binary(self, search_path: str) -> Binary:
        """The first ``mount-s3`` on the search path."""
        return PROGRAM.find(search_path)

    def keeps(self, path: str) -> bool:  # noqa: ARG002
        """A key is the path as it is."""
        return True

    def check_options(self, options: Sequence[tuple[str, str]]) -> None:
        """Refuse what mountkit sets itself."""
        for name, value in options:
            if name.lower() in OWNED:
                raise UsageError(
                    f"--option {name} is mountkit's own to set.", hint="Leave that option out."
                )
            if name.lower() == "incremental-upload":
                raise UsageError(
                    "With incremental-upload Mountpoint logs neither the size nor the ETag of what "
                    "it uploads, so mountkit could prove none of it.",
                    hint="Leave that option out; to append to files, use --backend rclone.",
                )
            if "\n" in name + value:
                raise UsageError(
                    f"--option {name!r} holds a line break.", hint="Give KEY=VALUE on one line."
                )

    def command(
        self,
        spec: MountSpec,
        binary: Binary,
        directory: Path,  # noqa: ARG002
        environment: Mapping[str, str],
    ) -> DaemonCommand:
        """``mount-s3`` in the foreground, which makes it log to its standard output."""
        flags = {
            "foreground": "true",
            # Trainer writes files anew and removes old ones; without these two it fails, or
            # deletes nothing and says nothing (F21).
            "allow-delete": "true",
            "allow-overwrite": "true",
            **_store_flags(spec),
            **_upload_flags(spec, binary.version, memory_limit.limit()),
            **dict(spec.options),
        }
        from mountkit.backends.mountpoint import upload_log

        environment = {**environment, "MOUNTPOINT_LOG": upload_log.FILTER}
        argv = [binary.path, spec.source.bucket, spec.target]
        for name, value in sorted(flags.items()):
            if value not in {"true", "false"}:
                argv.append(f"--{name}={value}")
            elif value == "true":
                argv.append(f"--{name}")
        return DaemonCommand(tuple(argv), environment)

    def waiting(self, spec: MountSpec) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing ever does: what was not uploaded when the daemon ended is gone."""
        return ()

    def entry(self, target: str) -> MountEntry | None:
        """What is mounted at the target itself."""
        return mount_table.at(target)

    def matches(self, entry: MountEntry, spec_id: str, device: int | None) -> bool:  # noqa: ARG002
        """Whether it is a Mountpoint on the device that ours was seen with; it has no name."""
        return entry.source == "mountpoint-s3" and entry.minor == device

    def control(
        self, spec: MountSpec, directory: Path, deadline: Deadline | None = None
    ) -> Control:
        """The mount, its store, and the journal of what was written."""
        # Only where it is used: a mount with another backend asks this one what waits, no more.
        from mountkit.backends.mountpoint.control import MountpointControl

        return MountpointControl(spec, directory, deadline=deadline)


def _store_flags(spec: MountSpec) -> dict[str, str]:
    flags = {}
    if spec.source.prefix:
        flags["prefix"] = f"{spec.source.prefix}/"
    if spec.store.region:
        flags["region"] = spec.store.region
    if spec.store.profile:
        flags["profile"] = spec.store.profile
    if spec.store.endpoint_url:
        flags["endpoint-url"] = spec.store.endpoint_url
        flags["force-path-style"] = "true"
    return flags


def _upload_flags(spec: MountSpec, version: tuple[int, ...], limit: int) -> dict[str, str]:
    part = part_size(spec.largest_file)
    flags = {"write-part-size": str(part)}
    if version >= CRC64_SINCE:
        # The store then knows the checksum of the whole object: no byte is read back to compare.
        flags["upload-checksums"] = "crc64nvme"
    if version >= MEMORY_TARGET_SINCE:
        flags["memory-target"] = str(memory_target(limit, part) // MIB)
    return flags


def part_size(largest_file: int) -> int:
    """Bytes of a part, in whole MiB, so that a file of that size has at most 10,000.

    Raises UsageError if S3 has no part that large.
    """
    needed = -(-largest_file // PARTS)
    part = max(SMALLEST_PART, -(-needed // MIB) * MIB)
    if part > LARGEST_PART:
        raise UsageError(
            f"A file of {largest_file:,} bytes is more than S3 takes (48.8 TiB).",
            hint="Give a smaller --largest-file.",
        )
    return part


def memory_target(limit: int, part: int) -> int:
    """Bytes for the daemon: an eighth of ``limit``, but enough to write 16 files at a time (F17).

    Mountpoint's own default is 95 % of the limit, which a training process wants for itself.
    """
    # What is left after Mountpoint's overhead of an eighth, at least 128 MiB.
    buffers = READ_PART + WRITERS * part
    needed = max(buffers + 128 * MIB, buffers * 8 // 7 + MIB)
    return max(SMALLEST_MEMORY, needed, min(limit // 8, 4096 * MIB))
