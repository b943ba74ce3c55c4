"""What a drain found, and one more look once nobody serves the mount."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mountkit.errors import MountkitError, MountUnavailableError, NotDurableError, Unproven
from mountkit.names import is_own
from mountkit.proof.bypassed_report import explained
from mountkit.proof.completeness import untold_gaps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mountkit.backends.base import WrittenFile
    from mountkit.mounts.mount import Mount
    from mountkit.state.record import MountRecord

# Of what is not proven, an error names so many.
NAMED = 5


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain found. ``files`` counts those that the store attests, now or earlier.

    ``seen`` has the size and time of every file in the cache when it ended. ``whole`` says that all
    that is not proven is named by itself, and not the mount in its place.
    """

    files: int
    checkpoints: tuple[str, ...]
    unproven: tuple[Unproven, ...]
    seen: Mapping[str, tuple[int, float, str]] = field(default_factory=dict)
    whole: bool = True

    @property
    def complete(self) -> bool:
        """Whether everything that was written is proven to be in the store."""
        return not self.unproven


def checked_again(mount: Mount, report: DrainReport, record: MountRecord | None) -> DrainReport:
    """The report once nothing serves any more, with what was written after the drain.

    ``record`` is the mount's, from before it was taken away.
    """
    late: dict[str, Unproven] = {}
    try:
        for file in written(mount):
            if file.dirty or report.seen.get(file.path) != file.stamp:
                reason = "it was written after the drain had ended"
                late[file.path] = Unproven(file.path, file.size, reason)
        late.update({each.path: each for each in untold_gaps(mount)})
    except (MountkitError, OSError) as error:
        missing = (*report.unproven, unknown(mount, error))
        report = replace(report, unproven=missing, whole=False)
    for one in mount.directory.bypassed.unnamed(record.strays_before if record else ()):
        late.setdefault(one.path, explained(mount, one))
    named = {problem.path for problem in report.unproven}
    more = (problem for path, problem in late.items() if path not in named)
    return replace(report, unproven=(*report.unproven, *more))


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


def not_proven(what: str, unproven: Sequence[Unproven]) -> NotDurableError:
    """The error that names the files, what the store holds, and what was expected."""
    lines = [f"  {problem}" for problem in unproven[:NAMED]]
    if len(unproven) > NAMED:
        lines.append(f"  and {len(unproven) - NAMED} more")
    count = f"{len(unproven)} file{'s' if len(unproven) != 1 else ''}"
    return NotDurableError(
        "\n".join([f"{what} is not proven to be in the store: {count}.", *lines]),
        hint="See the mount and its last error: mountkit status",
        unproven=tuple(unproven),
    )
