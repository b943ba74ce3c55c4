"""The direct backend: no daemon and no mount; what is saved goes to its disk by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mountkit.backends.base import Binary, Control, DaemonCommand
from mountkit.errors import MountUnavailableError, UsageError
from mountkit.linux import mount_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mountkit.linux.mount_table import MountEntry
    from mountkit.spec import MountSpec
    from mountkit.timing import Deadline


class DirectBackend:
    """No daemon; see :class:`mountkit.backends.base.Backend`."""

    name: ClassVar[str] = "direct"
    schemes: ClassVar[frozenset[str] | None] = frozenset({"file"})
    mounts: ClassVar[bool] = False
    unsupported_operations: ClassVar[frozenset[str]] = frozenset()
    write_back: ClassVar[bool] = False
    # An error that a library drops, as of a quota that is met when a file is closed, is in no log.
    journaled: ClassVar[bool] = True
    links: ClassVar[str] = ""
    mark: ClassVar[str] = ""

    def binary(self, search_path: str) -> Binary:  # noqa: ARG002
        """There is none to find."""
        return Binary("", ())

    def keeps(self, path: str) -> bool:  # noqa: ARG002
        """A file has the name that it was given."""
        return True

    def check_options(self, options: Sequence[tuple[str, str]]) -> None:
        """There is nothing that would take them."""
        for name, _ in options:
            raise UsageError(
                f"--option {name} is for a daemon, and the direct backend has none.",
                hint="Leave that option out, or mount the source at another directory.",
            )

    def command(
        self,
        spec: MountSpec,
        binary: Binary,  # noqa: ARG002
        directory: Path,  # noqa: ARG002
        environment: Mapping[str, str],  # noqa: ARG002
    ) -> DaemonCommand:
        """There is nothing to start.

        Raises MountUnavailableError.
        """
        raise MountUnavailableError(
            f"{spec.source.url} has no daemon.", hint="See what there is: mountkit status"
        )

    def waiting(self, spec: MountSpec) -> tuple[str, ...]:  # noqa: ARG002
        """Nothing ever does: what was written is where it belongs."""
        return ()

    def entry(self, target: str) -> MountEntry | None:
        """What the directory lies on, by the table alone."""
        return mount_table.under(target)

    def matches(self, entry: MountEntry, spec_id: str, device: int | None) -> bool:  # noqa: ARG002
        """Whether it is a disk of its own: where that is gone, a path leads to the root's."""
        return entry.target != "/"

    def control(
        self, spec: MountSpec, directory: Path, deadline: Deadline | None = None
    ) -> Control:
        """The directory, and what it held before."""
        from mountkit.backends.direct.control import DirectControl

        return DirectControl(spec, directory, deadline)
