"""What a drain found, and one more look once nobody serves the mount."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mountkit.errors import MountkitError, MountUnavailableError, Unproven
from mountkit.mounts.bypassed_files import new_bypassed_files
from mountkit.names import is_own
from mountkit.proof.bypassed_report import explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mountkit.backends.base import WrittenFile
    from mountkit.mounts.mount import Mount
    from mountkit.state.record import MountRecord


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain found. ``files`` counts those that the store attests, now or earlier.

    ``seen`` has the size and time of every file in the cache when it ended.
    """

    files: int
    checkpoints: tuple[str, ...]
    unproven: tuple[Unproven, ...]
    seen: Mapping[str, tuple[int, float, str]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything that was written is proven to be in the store."""
        return not self.unproven

    def checked_again(self, files: Iterable[WrittenFile]) -> DrainReport:
        """The report, and what was written after the drain, by the cache once nobody serves."""
        named = {problem.path for problem in self.unproven}
        late = tuple(
            Unproven(file.path, file.size, "it was written after the drain had ended")
            for file in files
            if file.path not in named and (file.dirty or self.seen.get(file.path) != file.stamp)
        )
        return replace(self, unproven=(*self.unproven, *late))


def checked_again(mount: Mount, report: DrainReport, record: MountRecord | None) -> DrainReport:
    """The report once nothing serves any more, with what was written after the drain.

    ``record`` is the mount's, from before it was taken away.
    """
    try:
        report = report.checked_again(written(mount))
    except (MountkitError, OSError) as error:
        report = replace(report, unproven=(*report.unproven, unknown(mount, error)))
    named = {problem.path for problem in report.unproven}
    late = [
        bypassed_file
        for bypassed_file in new_bypassed_files(mount, record)
        if bypassed_file.path not in named
    ]
    return replace(report, unproven=(*report.unproven, *(explained(mount, one) for one in late)))


def written(mount: Mount) -> list[WrittenFile]:
    """All that was written, but for what mountkit tried."""
    return [file for file in mount.control().files() if not is_own(file.path)]


def unreadable(mount: Mount, error: OSError) -> MountUnavailableError:
    """What this machine knows of a mount cannot be read, so nobody can say what was written."""
    return MountUnavailableError(
        f"What was written through the mount at {mount.path} is not known: {error}.",
        hint=f"See what became of its private directory: ls -la {mount.directory.path}",
    )


def unknown(mount: Mount, error: MountkitError | OSError) -> Unproven:
    """The mount, in place of files that nobody can name, and the next command."""
    found = unreadable(mount, error) if isinstance(error, OSError) else error
    reason = f"what was written through it is not known: {found.message} {found.hint}"
    return Unproven(mount.path, 0, reason.rstrip())
