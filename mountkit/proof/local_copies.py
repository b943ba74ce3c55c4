"""The local disk is not filled: what is proven gives its room back.

Until a file is proven its local copy is all there is to compare the store with, and may be all
there is of it. From then on the copy only saves a download. On a backend that keeps no files on
this machine there is nothing to give back.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.checkpoints.manifest import Manifest
from mountkit.errors import MountkitError, VerificationError
from mountkit.events import Observer, Problem
from mountkit.names import MANIFEST_NAME, TRAINER_STATE, top_of
from mountkit.store import checksums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mountkit.backends.base import Control, WrittenFile
    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount


class LocalCopies:
    """The local copies of the checkpoints of one mount, while a training saves there.

    Two settings of the mount decide: ``keep_local`` says which proven checkpoints keep theirs,
    ``cache_size`` how much room there is for all of them and the save to come. The latter wins.
    """

    def __init__(self, mount: Mount, limits: Limits, observer: Observer) -> None:
        self._mount = mount
        self._limits = limits
        self._observer = observer
        self._none = not backends.load(mount.spec.backend).write_back
        # A save begins in the training's thread, while a proof may end in its own.
        self._lock = threading.Lock()
        # By the checkpoint's path in the mount, in the order of their proofs.
        self._proven: dict[str, Manifest] = {}
        # Of these nobody in this process has seen that the copy is what was proven.
        self._inherited: set[str] = set()
        self._looked = False
        self._said = ""

    def proven(self, top: str, manifest: Manifest) -> None:
        """A checkpoint is proven: it, or those before it, need no local copy any more."""
        with self._lock:
            self._proven.pop(top, None)
            self._inherited.discard(top)
            self._proven[top] = manifest
            keep = self._mount.spec.keep_local
            if self._none or keep == "all":
                return
            self._patiently(lambda: self._release_but("" if keep == "none" else top))

    def forget(self, top: str) -> None:
        """A checkpoint is written anew, or removed: nothing of it is proven."""
        with self._lock:
            self._proven.pop(top, None)

    def make_room(self, name: str, size: int) -> None:
        """Before a save of about ``size`` bytes: the oldest proven copies go, as far as needed."""
        with self._lock:
            if not self._none and self._mount.spec.cache_size is not None:
                self._patiently(lambda: self._fit(name, size, self._mount.spec.cache_size or 0))

    def _fit(self, name: str, size: int, room: int) -> None:
        self._look()
        used = sum(file.size for file in self._control().files())
        for top in tuple(self._proven):
            if used + size <= room:
                return
            used -= self._release(top)
        if used + size > room:
            self._tell(
                f"{name} may take more than cache_size: {used / 1e6:,.0f} MB wait on this machine, "
                f"not proven or in use, the checkpoint before it took {size / 1e6:,.0f} MB, and "
                f"cache_size is {room / 1e6:,.0f} MB"
            )

    def _release_but(self, kept: str) -> None:
        self._look()
        for top in tuple(self._proven):
            if top != kept:
                self._release(top)

    def _look(self) -> None:
        """Take in what an earlier process has proven, and left here."""
        if self._looked:
            return
        store = self._mount.store(patience=self._limits.patience, deadline=self._limits.deadline)
        tops = {top_of(file.path) for file in self._control().files()} - {"", *self._proven}
        found = {}
        for top in sorted(tops):
            try:
                content = store.get(f"{top}/{MANIFEST_NAME}")
                if content is not None:
                    found[top] = Manifest.from_bytes(content)
            except VerificationError:
                # One that cannot be read makes no checkpoint, and proves nothing.
                continue
        older = sorted(found, key=lambda top: found[top].created)
        self._proven = {**{top: found[top] for top in older}, **self._proven}
        self._inherited = set(older)
        self._looked = True

    def _release(self, top: str) -> int:
        """Drop the copies of one checkpoint, but for files that are in use; the bytes of them."""
        files = self._covered(top)
        # Trainer's state first: without it nobody takes the rest for a checkpoint that lost files.
        state = [file for file in files if file.path == f"{top}/{TRAINER_STATE}"]
        if state and self._control().evict(state):
            return 0
        rest = [file for file in files if file not in state]
        stay = {*self._control().evict(rest)}
        if not stay:
            del self._proven[top]
        return sum(file.size for file in files if file.path not in stay)

    def _covered(self, top: str) -> Sequence[WrittenFile]:
        """Its files that are, by all that is known, just as they were proven."""
        manifest = self._proven[top]
        entries = {f"{top}/{entry.path}": entry for entry in manifest.files}
        created = manifest.created.timestamp()

        def same(file: WrittenFile) -> bool:
            entry = entries.get(file.path)
            if entry is None or file.dirty or file.gone:
                return False
            if file.size != entry.size or file.modified > created:
                return False
            if top not in self._inherited:
                return True
            here = self._control().reference(file.path)
            value = here and here.digest.values[checksums.REFERENCE]
            return value == entry.crc64nvme

        return [file for file in self._control().files(top) if same(file)]

    def _control(self) -> Control:
        return self._mount.control(self._limits.deadline)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Do it; what cannot be dropped now stays, and is no reason to end a training."""
        try:
            work()
        except (MountkitError, OSError) as error:
            self._tell(f"Local copies of proven checkpoints stay for now: {error}")

    def _tell(self, message: str) -> None:
        if message != self._said:
            self._said = message
            self._observer(Problem(message))
