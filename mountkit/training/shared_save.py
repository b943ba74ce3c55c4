"""A save of many ranks that a lost mount broke is saved once more: by all of them, or by none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mountkit.events import Problem
from mountkit.training.save_retry import REPEATS, SaveRetrier

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.config.timeouts import Limits
    from mountkit.events import Observer
    from mountkit.mounts.mount import Mount
    from mountkit.proof.committer import Prover
    from mountkit.training.ranks import Ranks
    from mountkit.training.save_retry import Result


class SharedSaveRetrier(SaveRetrier):
    """Saves checkpoints of one training together with the other ranks.

    ``path``: The path of a checkpoint relative to the mount, from its name.
    """

    def __init__(
        self,
        mount: Mount,
        prover: Prover,
        limits: Limits,
        observer: Observer,
        ranks: Ranks,
        path: Callable[[str], str],
    ) -> None:
        super().__init__(mount, prover, limits, observer)
        self._ranks = ranks
        self._path = path
        #: The save that was made last, by its own name.
        self.made = ""

    def save(
        self,
        name: str,
        work: Callable[[], Result],
        *,
        hidden: Callable[[], Exception | None] = lambda: None,
        lockstep: bool = False,
    ) -> Result:
        """Do this rank's part of a save; again, with all others, if any part of it was torn.

        ``lockstep``: The save has collectives inside. A rank that failed in it may leave the others
        waiting there, and cannot agree with them on anything: it ends, and the job with it.

        Raises NotDurableError if it is torn each time, and whatever any rank raises, on all ranks.
        """
        earlier: tuple[object, ...] = ()
        error: Exception | None = None
        reason = ""
        self._ranks.together(lambda: self._begin(name))
        for _ in range(REPEATS):
            before = self._seen()
            error = None
            result: Any = None
            try:
                self.stance.step_back()
                result = work()
            except Exception as raised:
                if lockstep:
                    self._observer(
                        Problem(
                            f"{name} fails on this rank, and others may wait for it in the midst "
                            "of the save: this process ends, and the job with it. Start it again"
                        )
                    )
                    self._name(raised)
                    raise
                error = raised

            def judged(
                before: Any = before,
                error: Exception | None = error,
                earlier: tuple[object, ...] = earlier,
            ) -> tuple[str, tuple[object, ...]]:
                found = self._broken(before, hidden() or error)
                if not found and error is not None:
                    self._name(error)
                    raise error
                return found, self._refuse_again(name, error, found, earlier)

            found, earlier = self._ranks.together(judged)
            reasons = self._ranks.gather(found)
            reason = next(filter(None, reasons), "")
            if not reason:
                return result  # type: ignore[no-any-return] # the work's
            if self._ranks.first:
                self._observer(Problem(f"{name} is saved again by all ranks: {reason}"))
            self._ranks.together(lambda: self._renew(name))
        if error is not None:
            raise error
        raise self._torn(name, reason)

    def _renew(self, name: str) -> None:
        """Torn files must neither be taken for the new ones nor be left among them."""
        self._mount.wait_until_serving(self._limits.repair)
        if self._ranks.first:
            self.clear(name)
        self._begin(name)

    def _begin(self, name: str) -> None:
        self.made = self._ranks.next_save()
        layout = self._ranks.layout
        if layout is None or not layout.first:
            return
        self._prover.begin(name)
        alone = len(layout.nodes) == 1
        self._mount.directory.ranks.begin(self._path(name), self.made, layout.here, alone=alone)
