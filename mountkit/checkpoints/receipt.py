"""A receipt: what one node says of its own files of a checkpoint that many ranks saved. Format 1.

A node is the ranks that share one mount. World rank 0 waits for a receipt of each node, and makes
the one manifest of them. All here is pure: who asks the store is ``proof.rank_receipts``.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime  # noqa: TC003 - a type of the public value below
from typing import TYPE_CHECKING, Any

from mountkit.checkpoints.manifest import (
    FileEntry,
    check_files,
    read_document,
    read_entry,
    read_field,
    read_time,
)
from mountkit.errors import NotDurableError, Unproven, VerificationError
from mountkit.names import is_proof, receipt_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mountkit.store.base import ObjectInfo

FORMAT = 1
# Of a store's own limits none is beyond these: a receipt that is, was not written by a node.
LARGEST_FILE_BYTES = 1 << 50
LARGEST_RECEIPT_BYTES = 64 * 1024 * 1024
MOST_FILES = 1_000_000
_HINT = "It cannot be trusted; see what wrote it, and save again."
_SAVE = re.compile(r"[0-9a-f]{1,32}-[0-9]{1,9}")
_RNG = "rng_state_{}.pth"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which ranks share which mount: the same on every rank but for ``rank``, its own.

    ``nodes``: The world ranks of each node, that of world rank 0 first.
    """

    rank: int
    nodes: tuple[tuple[int, ...], ...]

    @property
    def world(self) -> int:
        """How many ranks there are."""
        return sum(len(ranks) for ranks in self.nodes)

    @property
    def node(self) -> int:
        """The number of this rank's node."""
        return next(number for number, ranks in enumerate(self.nodes) if self.rank in ranks)

    @property
    def here(self) -> tuple[int, ...]:
        """The ranks of this node."""
        return self.nodes[self.node]

    @property
    def first(self) -> bool:
        """Whether this rank proves what its node has written."""
        return self.rank == self.here[0]

    @property
    def leads(self) -> bool:
        """Whether this rank writes the manifest."""
        return self.rank == 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one node has proven of its own files, or why it could not.

    Parameters
    ----------
    step:
        The step that was saved.
    save:
        Which save of the training that was: one that is made again leaves an older receipt behind,
        which says nothing of the new files.
    node:
        The number of the node; ``ranks`` are its world ranks, of ``world``.
    created:
        When it was written, with a time zone.
    files:
        What the node's ranks wrote, each as the store attested it. A node may write none.
    problem:
        Why the node could not prove its files, or "".
    epoch:
        That of the lease under which the node wrote.

    Raises
    ------
    VerificationError
        If it is none that a node would write.
    """

    step: int
    save: str
    node: int
    ranks: tuple[int, ...]
    world: int
    created: datetime
    files: tuple[FileEntry, ...] = ()
    problem: str = ""
    epoch: int = 0

    def __post_init__(self) -> None:
        for name in ("step", "node", "world", "epoch"):
            if not 0 <= getattr(self, name) < 1 << 63:
                raise VerificationError(f"The receipt has an impossible {name!r}.", hint=_HINT)
        if not _SAVE.fullmatch(self.save):
            raise VerificationError("The receipt names no save.", hint=_HINT)
        if self.created.tzinfo is None:
            raise VerificationError("The receipt's time has no time zone.", hint=_HINT)
        known = sorted(set(self.ranks)) == list(self.ranks) and bool(self.ranks)
        if not known or self.ranks[0] < 0 or self.ranks[-1] >= self.world:
            raise VerificationError("The receipt names no ranks of its world.", hint=_HINT)
        if len(self.files) > MOST_FILES:
            raise VerificationError(f"The receipt lists {len(self.files)} files.", hint=_HINT)
        check_files(self.files)
        for entry in self.files:
            if entry.size > LARGEST_FILE_BYTES:
                raise VerificationError(
                    f"{entry.path!r} has {entry.size} bytes in the receipt.", hint=_HINT
                )
            if is_proof(entry.path):
                raise VerificationError(f"The receipt lists {entry.path!r}.", hint=_HINT)
        object.__setattr__(self, "files", tuple(sorted(self.files, key=lambda item: item.path)))

    def to_bytes(self) -> bytes:
        """The receipt as UTF-8 JSON."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "step": self.step,
            "save": self.save,
            "node": self.node,
            "ranks": list(self.ranks),
            "world": self.world,
            "created": self.created.isoformat(),
            "epoch": self.epoch,
            **({"problem": self.problem} if self.problem else {}),
            "files": [
                {name: value for name, value in asdict(entry).items() if value or name != "etag"}
                for entry in self.files
            ],
        }
        return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = "The receipt") -> Receipt:
        """Read a receipt; keys it does not know are passed over.

        Raises VerificationError if it is none of this format, or one that must not be trusted.
        """
        document = read_document(data, where, FORMAT)
        listed = read_field(document, "files", list, where)
        ranks = read_field(document, "ranks", list, where)
        if not all(isinstance(rank, int) and not isinstance(rank, bool) for rank in ranks):
            raise VerificationError(f"{where} has no valid 'ranks'.", hint=_HINT)
        problem = document.get("problem", "")
        try:
            return cls(
                step=read_field(document, "step", int, where),
                save=read_field(document, "save", str, where),
                node=read_field(document, "node", int, where),
                ranks=tuple(ranks),
                world=read_field(document, "world", int, where),
                created=read_time(read_field(document, "created", str, where), where),
                files=tuple(read_entry(item, where) for item in listed),
                problem=problem if isinstance(problem, str) else "a problem that is no text",
                # What an earlier one does not say is the first epoch.
                epoch=read_field({"epoch": 0, **document}, "epoch", int, where),
            )
        except VerificationError as error:
            raise VerificationError(f"{where}: {error.message}", hint=error.hint) from error

    def answers(self, layout: Layout, step: int, save: str) -> bool:
        """Whether it is of this very save, and of a node as this training has it."""
        return (self.step, self.save, self.world) == (step, save, layout.world) and (
            self.node < len(layout.nodes) and self.ranks == layout.nodes[self.node]
        )


def name_of(node: int) -> str:
    """The name of a node's receipt, in the directory of the checkpoint."""
    return receipt_name(node)


def combine(top: str, receipts: Iterable[Receipt]) -> tuple[FileEntry, ...]:
    """The files of all nodes, each once.

    ``top``: The checkpoint, for messages. Raises NotDurableError if two nodes name one file with
    different bytes.
    """
    found: dict[str, FileEntry] = {}
    doubtful: dict[str, Unproven] = {}
    for receipt in receipts:
        for entry in receipt.files:
            other = found.setdefault(entry.path, entry)
            if (other.size, other.crc64nvme) != (entry.size, entry.crc64nvme):
                reason = "two nodes wrote it, with different bytes"
                doubtful[entry.path] = Unproven(f"{top}/{entry.path}", entry.size, reason)
    if doubtful:
        raise _unproven(
            top,
            list(doubtful.values()),
            "Save on one node only: save_on_each_node=False, and one output_dir for all ranks.",
        )
    return tuple(sorted(found.values(), key=lambda entry: entry.path))


def check_listing(
    top: str,
    entries: Sequence[FileEntry],
    listed: Mapping[str, ObjectInfo],
    left_over: Collection[str] = (),
) -> None:
    """Hold what the nodes say against what the store lists.

    ``left_over``: What lies beside the data and is none. Raises NotDurableError, naming each file.
    """
    problems = []
    known = {entry.path: entry for entry in entries}
    for entry in entries:
        there = listed.get(entry.path)
        if there is None or there.size != entry.size:
            holds = "nothing" if there is None else f"{there.size} bytes"
            problems.append(Unproven(f"{top}/{entry.path}", entry.size, f"the store lists {holds}"))
        elif entry.etag and there.tag != entry.etag:
            reason = "it was written again after it was proven"
            problems.append(Unproven(f"{top}/{entry.path}", entry.size, reason))
    problems += [
        Unproven(f"{top}/{path}", info.size, "the store has it, and no rank says that it wrote it")
        for path, info in sorted(listed.items())
        if path not in known and path not in left_over and not is_proof(path)
    ]
    if problems:
        raise _unproven(top, problems, f"See what wrote them, and save again: remove {top}.")


def check_ranks(top: str, paths: Collection[str], layout: Layout, *, states: bool) -> None:
    """See that every rank's file is among those of a checkpoint.

    ``states``: Whether ranks save their random states (not with ``save_only_model``). Raises
    NotDurableError, naming the file of each rank that has none.
    """
    wanted = [_RNG.format(rank) for rank in range(layout.world)] if states else []
    folders = {path.rpartition("/")[0] for path in paths if path.endswith(".distcp")}
    # Written last, by one rank for all; without it nobody can read the rest.
    wanted += [f"{folder}/.metadata".lstrip("/") for folder in sorted(folders)]
    missing = [
        Unproven(f"{top}/{path}", 0, "no rank says that it wrote it")
        for path in wanted
        if path not in paths
    ]
    if missing:
        raise _unproven(top, missing, "See the other ranks' errors, and save again.")


def _unproven(top: str, problems: Sequence[Unproven], hint: str) -> NotDurableError:
    lines = [f"  {problem}" for problem in problems[:5]]
    if len(problems) > len(lines):
        lines.append(f"  and {len(problems) - len(lines)} more")
    said = f"{top} is not the checkpoint of all its ranks: {len(problems)} files."
    return NotDurableError("\n".join([said, *lines]), hint=hint, unproven=tuple(problems))
