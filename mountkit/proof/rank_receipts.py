"""The proof of a checkpoint that many ranks saved: each node proves its own, one writes it down.

The nodes take part through the bucket alone: no collective is called from the thread of a proof.
Every wait here ends with the proof's limits, with a receipt that tells of a problem, or when the
training has ended.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mountkit.checkpoints import receipt as receipts
from mountkit.checkpoints.manifest import Manifest
from mountkit.checkpoints.receipt import LARGEST_RECEIPT_BYTES, Layout, Receipt
from mountkit.checkpoints.verification import inside, listing
from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    Unproven,
    VerificationError,
)
from mountkit.events import Observer, Problem
from mountkit.names import MANIFEST_NAME, is_proof
from mountkit.proof.asking_again import Endurance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from mountkit.checkpoints.manifest import FileEntry
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.store.base import Store

    Result = TypeVar("Result")

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
MARKS_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Share:
    """What a rank has to know of a save that it shares with others.

    ``save``: Its own name, the same on all ranks. ``states``: Whether each rank saves its random
    state. ``epoch``: That of the lease under which it is written. ``stopped``: Set once nobody
    waits for the proof any more.
    """

    layout: Layout
    save: str
    states: bool = True
    epoch: int = 0
    stopped: threading.Event = field(default_factory=threading.Event, compare=False)


def await_ranks(mount: Mount, top: str, share: Share, limits: Limits) -> None:
    """Wait until all ranks of this node have said that their save is over.

    ``top``: The checkpoint, relative to the mount. Raises NotDurableError, naming the ranks that
    have not within the stall timeout.
    """
    began = time.monotonic()
    while True:
        marks = mount.directory.ranks.read(top)
        if marks is None or marks.save != share.save:
            raise _unproven(top, "another save of it has begun")
        if not marks.missing:
            return
        names = ", ".join(str(rank) for rank in marks.missing)
        if share.stopped.is_set():
            raise _unproven(top, f"the training ended before rank {names} had saved its part")
        if time.monotonic() - began > limits.stall or limits.deadline.passed:
            raise _unproven(top, f"rank {names} did not say that its save of it is over")
        time.sleep(MARKS_PAUSE_SECONDS)


class NodeReceipts:
    """The receipts of one save in the bucket. ``below``: The directory of the checkpoints."""

    def __init__(
        self, store: Store, below: str, share: Share, limits: Limits, observer: Observer
    ) -> None:
        self._store = store
        self._below = below
        self._share = share
        self._limits = limits
        self._observer = observer

    def collect(
        self,
        name: str,
        step: int,
        entries: Sequence[FileEntry],
        left_over: Sequence[str] = (),
    ) -> tuple[FileEntry, ...]:
        """The files of all nodes, to be written down by world rank 0; ``entries`` are its node's.

        Raises NotDurableError if a node has a problem, or gives no receipt in time; if a file or a
        rank is missing, or one is there that no node has written.
        """
        found = {0: self._receipt(step, entries)}
        found.update(self._await(name, step))
        top = self._top(name)
        files = receipts.combine(top, found.values())
        listed = self._endured(lambda: listing(self._store, name))
        receipts.check_ranks(
            top, {entry.path for entry in files}, self._share.layout, states=self._share.states
        )
        receipts.check_listing(top, files, listed, left_over)
        return files

    def deliver(self, name: str, step: int, entries: Sequence[FileEntry]) -> Manifest:
        """Write the receipt of this node, and wait for the manifest that has its files.

        Raises NotDurableError if the node of world rank 0 has a problem, or is too late.
        """
        content = self._receipt(step, entries).to_bytes()
        path = inside(name, receipts.name_of(self._share.layout.node))
        self._endured(lambda: self._store.put(path, content))
        own = {(entry.path, entry.crc64nvme) for entry in entries}

        def written() -> Manifest | None:
            data = self._store.get(inside(name, MANIFEST_NAME))
            if data is not None:
                manifest = Manifest.from_bytes(data)
                files = {(entry.path, entry.crc64nvme) for entry in manifest.files}
                return manifest if manifest.step == step and own <= files else None
            self._refuse_problem(name, self._read(name, step, 0))
            return None

        return self._polled(written, f"world rank 0 wrote no manifest of {self._top(name)}")

    def tell(self, name: str, step: int, error: MountkitError) -> None:
        """Say that this node cannot prove its files, so that no other node waits for it."""
        if len(self._share.layout.nodes) == 1:
            return
        told = self._receipt(step, (), error.message.partition("\n")[0])
        path = inside(name, receipts.name_of(self._share.layout.node))
        try:
            self._store.put(path, told.to_bytes())
        except MountkitError as problem:
            # The others' own limits end their wait.
            self._observer(Problem(f"The other nodes cannot be told: {problem.message}"))

    def clean(self, name: str) -> None:
        """Remove the receipts: the manifest says all that they said."""
        try:
            listed = listing(self._store, name)
            own = [path for path in listed if is_proof(path) and path != MANIFEST_NAME]
            self._store.delete(inside(name, path) for path in own)
        except MountkitError as problem:
            self._observer(Problem(f"Receipts stay in {self._top(name)}: {problem.message}"))

    def _receipt(self, step: int, entries: Sequence[FileEntry], problem: str = "") -> Receipt:
        layout = self._share.layout
        return Receipt(
            step=step,
            save=self._share.save,
            node=layout.node,
            ranks=layout.here,
            world=layout.world,
            created=datetime.now(UTC),
            files=tuple(entries),
            problem=problem,
            epoch=self._share.epoch,
        )

    def _await(self, name: str, step: int) -> dict[int, Receipt]:
        waiting = set(range(1, len(self._share.layout.nodes)))
        found: dict[int, Receipt] = {}

        def all_there() -> dict[int, Receipt] | None:
            for node in sorted(waiting):
                receipt = self._read(name, step, node)
                self._refuse_problem(name, receipt)
                if receipt is not None:
                    found[node] = receipt
                    waiting.discard(node)
            return None if waiting else found

        if not waiting:
            return found
        nodes = self._share.layout.nodes
        return self._polled(
            all_there,
            lambda: (
                f"no receipt of the node of rank "
                f"{', '.join(str(nodes[node][0]) for node in sorted(waiting))} came"
            ),
        )

    def _read(self, name: str, step: int, node: int) -> Receipt | None:
        """The receipt of a node for this save; None if there is none, or one of another save."""
        path = inside(name, receipts.name_of(node))
        data = self._store.get(path, limit=LARGEST_RECEIPT_BYTES)
        if data is None:
            return None
        receipt = Receipt.from_bytes(data, where=self._store.url(path))
        same = receipt.node == node and receipt.answers(self._share.layout, step, self._share.save)
        return receipt if same else None

    def _refuse_problem(self, name: str, receipt: Receipt | None) -> None:
        if receipt is not None and receipt.problem:
            raise _unproven(
                self._top(name),
                f"the node of rank {receipt.ranks[0]} cannot prove its files: {receipt.problem}",
            )

    def _polled(
        self, request: Callable[[], Result | None], late: str | Callable[[], str]
    ) -> Result:
        """Ask the store again and again; raises NotDurableError, with ``late``, at the end."""
        began, pause = time.monotonic(), FIRST_PAUSE_SECONDS
        endurance, why = Endurance(self._limits.stall), ""
        while True:
            try:
                answer = request()
            except VerificationError as error:
                # Somebody else's, or an older one, which the right one replaces.
                why = f": {error.message}"
            except (MountUnavailableError, ConfigurationError, PermissionDeniedError) as error:
                self._endure(endurance, error)
            else:
                if answer is not None:
                    return answer
                # The store answers: it is not what is waited for.
                endurance = Endurance(self._limits.stall)
            if self._share.stopped.is_set() or self._limits.over(began):
                said = late if isinstance(late, str) else late()
                raise NotDurableError(
                    f"{said} within {time.monotonic() - began:.0f} s{why}.",
                    hint="See the errors of the other nodes; then start the job again.",
                )
            # An event, so that nobody who ends a training waits for the rest of a pause.
            self._share.stopped.wait(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    def _endured(self, request: Callable[[], Result]) -> Result:
        """Make a request; again while the store is out of reach, within the stall timeout."""
        endurance = Endurance(self._limits.stall)
        while True:
            try:
                return request()
            except (MountUnavailableError, ConfigurationError, PermissionDeniedError) as error:
                self._endure(endurance, error)
            self._share.stopped.wait(LONGEST_PAUSE_SECONDS)

    def _endure(self, endurance: Endurance, error: MountkitError) -> None:
        if endurance.ends(error, 0) or self._share.stopped.is_set():
            error.may_pass = 0.0
            raise error
        self._observer(Problem(error.message))

    def _top(self, name: str) -> str:
        return inside(self._below, name)


def _unproven(top: str, reason: str) -> NotDurableError:
    return NotDurableError(
        f"{top} is not proven: {reason}.",
        hint="See the errors of the other ranks; then start the job again: it goes on from the "
        "newest proven checkpoint.",
        unproven=(Unproven(top, 0, reason),),
    )
