"""What lies below a mount, seen by a process that does not supervise it.

A supervisor holds the bare directory open, and the kernel lets its user's processes look through
that (proc(5), ``/proc/PID/fd``). The mount itself is never touched.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import NotDurableError
from mountkit.formatting import moment
from mountkit.linux import mount_table
from mountkit.mounts.bare_directory import bypassed_files_in
from mountkit.state.record import SERVING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mountkit.linux.process import ProcessIdentity
    from mountkit.mounts.mount import Mount
    from mountkit.state.bypassed_files import BypassedFile

MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)


def missed(mount: Mount) -> tuple[BypassedFile, ...]:
    """The files that bypassed the mount since it was made, and that no earlier run has named.

    Raises NotDurableError if that cannot be written down: then nobody would know of it later.
    """
    try:
        mount.directory.bypassed.add(lying(mount))
    except OSError as error:
        raise NotDurableError(
            f"What was written beside the mount at {mount.path} is not known: {error}",
            hint=f"See what became of the mount: mountkit status {mount.path}",
        ) from error
    record = mount.last_record()
    return mount.directory.bypassed.unnamed(record.strays_before if record else ())


def lying(mount: Mount) -> tuple[BypassedFile, ...]:
    """What lies below the mount just now, as far as that can be seen from here."""
    record = mount.last_record()
    if record is None or not backends.load(mount.spec.backend).mounts:
        return ()
    covered = moment(record.since) if record.state == SERVING else None
    with held_open(record.supervisor, mount.path) as bare:
        return () if bare is None else tuple(bypassed_files_in(bare, (covered, None)))


@contextmanager
def held_open(supervisor: ProcessIdentity, target: str) -> Iterator[Path | None]:
    """The bare directory at ``target`` that a supervisor holds open; None if it does not.

    Nor where its descriptors may not be seen: it looks itself before all is over.
    """
    descriptor = _borrow(supervisor, target)
    try:
        yield None if descriptor is None else Path(f"/proc/self/fd/{descriptor}")
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _borrow(supervisor: ProcessIdentity, target: str) -> int | None:
    if not supervisor.alive():
        return None
    mounted = {entry.id for entry in mount_table.read() if entry.target == target}
    process = Path(f"/proc/{supervisor.pid}")
    try:
        numbers = [link.name for link in (process / "fd").iterdir()]
    except OSError:
        return None
    for number in numbers:
        if not _leads_below(process, number, target, mounted):
            continue
        try:
            ours = os.open(process / "fd" / number, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        # It may have become another one meanwhile.
        if _leads_below(Path("/proc/self"), str(ours), target, mounted):
            return ours
        os.close(ours)
    return None


def _leads_below(process: Path, number: str, target: str, mounted: set[int]) -> bool:
    """Whether a descriptor is the directory at ``target``, and not what is mounted there."""
    try:
        if str((process / "fd" / number).readlink()) != target:
            return False
        found = MOUNT_ID.search((process / "fdinfo" / number).read_text())
    except OSError:
        return False
    return found is not None and int(found[1]) not in mounted
