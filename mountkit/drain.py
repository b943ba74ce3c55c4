"""The end of a mount: everything that was written through it is in the store, or is named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit import checkpoints
from mountkit.errors import NotDurableError, VerificationError
from mountkit.events import Observer, Trouble
from mountkit.manifest import Manifest
from mountkit.prover import Prover, stray
from mountkit.spec import MANIFEST_NAME, Unproven
from mountkit.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mountkit.backends.protocol import LocalFile
    from mountkit.config import Limits
    from mountkit.handle import Mount

TRAINER_STATE = "trainer_state.json"


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain found. ``files`` counts the attested files, manifests' included."""

    files: int
    checkpoints: tuple[str, ...]
    unproven: tuple[Unproven, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that was written is proven to be in the store."""
        return not self.unproven

    @property
    def size(self) -> int:
        """The bytes that are not proven."""
        return sum(problem.size for problem in self.unproven)


def drain(
    mount: Mount,
    limits: Limits,
    observer: Observer,
    *,
    ended_well: bool,
) -> DrainReport:
    """Push, wait and prove: finished checkpoints get a manifest, every other file is attested.

    Parameters
    ----------
    ended_well:
        Whether what wrote the files says that it finished. Otherwise a checkpoint counts as
        finished only with a readable ``trainer_state.json``, which Trainer writes last.

    Raises
    ------
    MountkitError
        If the store cannot be asked, or refuses.
    """
    written = mount.control().files()
    groups, loose = _group(written)
    proven: list[str] = []
    unproven: list[Unproven] = []
    files = 0
    for top, members in sorted(groups.items()):
        below, _, name = top.rpartition("/")
        step = checkpoints.step_of(name)
        covered = _covered(mount, top, members)
        if covered:
            files += len(members)
            continue
        if step is None or not (ended_well or _finished(mount, top, step)):
            observer(Trouble(f"{top} is not a finished checkpoint; it gets no manifest."))
            loose.extend(members)
            continue
        prover = Prover(mount, below, limits, observer)
        names = {file.path[len(top) + 1 :] for file in members}
        names.update(found.path[len(top) + 1 :] for found in mount.store().list(top))
        try:
            files += len(prover.prove(name, step, sorted(names)).files)
            proven.append(top)
        except NotDurableError as error:
            unproven.extend(error.unproven)
    outcome = Uploads(mount, limits, observer).attest([file.path for file in loose])
    unproven.extend(outcome.unproven)
    unproven.extend(_unwitnessed(mount, groups))
    named = {problem.path for problem in unproven}
    unproven.extend(stray(mount, path) for path in mount.directory.strays() if path not in named)
    return DrainReport(files + len(outcome.proven), tuple(proven), tuple(unproven))


def _group(
    written: Iterable[LocalFile],
) -> tuple[dict[str, list[LocalFile]], list[LocalFile]]:
    """Files by the checkpoint they belong to, and those that belong to none."""
    groups: dict[str, list[LocalFile]] = {}
    loose = []
    for file in written:
        parts = file.path.split("/")
        index = next(
            (i for i, part in enumerate(parts[:-1]) if checkpoints.step_of(part) is not None), None
        )
        if index is None:
            loose.append(file)
        else:
            groups.setdefault("/".join(parts[: index + 1]), []).append(file)
    return groups, loose


def _covered(mount: Mount, top: str, members: Iterable[LocalFile]) -> bool:
    """Whether a manifest in the store speaks for all of these files as they are now."""
    data = mount.store().get(f"{top}/{MANIFEST_NAME}")
    if data is None:
        return False
    try:
        manifest = Manifest.from_bytes(data)
    except VerificationError:
        return False
    sizes = {entry.path: entry.size for entry in manifest.files}
    created = manifest.created.timestamp()
    return all(
        sizes.get(file.path[len(top) + 1 :]) == file.size
        and file.modified <= created
        and not file.dirty
        for file in members
    )


def _finished(mount: Mount, top: str, step: int) -> bool:
    local = mount.control().local(f"{top}/{TRAINER_STATE}")
    if local is None:
        return False
    try:
        content = json.loads(local.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("global_step") == step


def _unwitnessed(mount: Mount, groups: Mapping[str, object]) -> list[Unproven]:
    """Checkpoints this run wrote whose local bytes are gone, so that nothing can be compared."""
    record = mount.record()
    before = record.unproven_before if record else ()
    return [
        Unproven(found.name, 0, "its files left the local cache before anybody proved it")
        for found in checkpoints.scan(mount.store())
        if not found.proven and found.name not in before and found.name not in groups
    ]
