"""What a mount leaves behind that has lost its run to another writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.errors import MountUnavailableError, Unproven
from mountkit.monitoring.snapshot import not_covered
from mountkit.proof.report import DrainReport, unknown, written

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount


def fenced_report(mount: Mount, reason: str) -> DrainReport:
    """What a mount leaves unproven whose lease is lost: nothing of it is uploaded any more."""
    problem = Unproven(mount.path, 0, f"the lease of the run is lost: {reason}")
    try:
        files = written(mount)
    except (MountUnavailableError, OSError) as error:
        return DrainReport(0, (), (problem, unknown(mount, error)), whole=False)
    record, stats = mount.last_record(), mount.directory.proof_stats.read()
    open_files = [file for file in files if record is None or not_covered(file, record, stats)]
    why = "the lease of the run was lost before it was proven"
    return DrainReport(
        len(files) - len(open_files),
        (),
        (problem, *(Unproven(file.path, file.size, why) for file in open_files)),
        seen={file.path: file.stamp for file in files},
    )
