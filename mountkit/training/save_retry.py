"""A save that a lost mount broke is saved once more, when the mount is back.

Trainer knows no such thing: an error of a save ends the training, and one that a library swallows
leaves a torn checkpoint. A save of many ranks is made again by all of them, or by none.
"""

from __future__ import annotations

import errno
import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    NotDurableError,
    Unproven,
)
from mountkit.events import Observer, Problem
from mountkit.mounts import working_directory
from mountkit.state.record import SERVING
from mountkit.store import refusal_in
from mountkit.timing import wait_until
from mountkit.training import permanent_errors
from mountkit.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount
    from mountkit.proof.committer import Prover

    Result = TypeVar("Result")

REPEATS = 3
REPORTED = "the mount reported an error"
# The error of a save may come before the supervisor has seen why.
NOTICE_SECONDS = 2.0
STORE_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """When the mount was lost, and whether it serves, if that is ``known``: if it can be read."""

    lost: tuple[float, ...] = ()
    serves: bool = True
    known: bool = True


class SaveRetrier:
    """Saves checkpoints of one training, more than once if the mount is lost meanwhile.

    ``ranks``: Those who save together. ``path``: The path of a checkpoint relative to the mount,
    from its name.
    """

    def __init__(
        self,
        mount: Mount,
        prover: Prover,
        limits: Limits,
        observer: Observer,
        notice: float = NOTICE_SECONDS,
        *,
        ranks: Ranks | None = None,
        path: Callable[[str], str] = str,
    ) -> None:
        self._notice = notice
        self._mount = mount
        self.stance = working_directory.Stance(mount.path)
        self._prover = prover
        self._limits = limits
        self._observer = observer
        self._ranks = ranks or Ranks()
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
        """Do ``work``, this rank's part of the checkpoint ``name``; again, if any part was torn.

        ``hidden`` tells the error that ``work`` met when it was done last, also one it swallowed.
        ``lockstep``: The save has collectives inside. A rank that failed in it may leave the others
        waiting there, and cannot agree with them on anything: it ends, and the job with it.

        Raises NotDurableError if it is torn each time; MountkitError if the mount or the store does
        not come back; and whatever ``work`` raises for another reason. On all ranks, if on one.
        """
        reason = ""
        error: Exception | None = None
        earlier: tuple[object, ...] = ()
        self._ranks.together(lambda: self._begin(name))
        for _ in range(REPEATS):
            before = self._seen()
            error = None
            result: Any = None
            try:
                self.stance.step_back()
                result = work()
            except Exception as raised:
                if lockstep and not self._ranks.alone:
                    self._observer(
                        Problem(
                            f"{name} fails on this rank, and others may wait for it in the midst "
                            "of the save: this process ends, and the job with it. Start it again"
                        )
                    )
                    self._name(raised)
                    raise
                error = raised
            judge = functools.partial(self._judge, name, before, error, hidden() or error, earlier)
            found, earlier = self._ranks.together(judge)
            reason = next(filter(None, self._ranks.gather(found)), "")
            if not reason:
                return result  # type: ignore[no-any-return] # the work's
            if self._ranks.first:
                by = "" if self._ranks.alone else " by all ranks"
                self._observer(Problem(f"{name} is saved again{by}: {reason}"))
            self._ranks.together(lambda: self._renew(name))
        if error is not None:
            raise error
        raise self._torn(name, reason)

    def _begin(self, name: str) -> None:
        self.made = self._ranks.next_save()
        if not self._ranks.first:
            return
        self._prover.begin(name)
        layout = self._ranks.layout
        here, alone = (layout.here, len(layout.nodes) == 1) if layout else ((0,), True)
        self._mount.directory.ranks.begin(self._path(name), self.made, here, alone=alone)

    def _judge(
        self,
        name: str,
        before: _Seen,
        error: Exception | None,
        met: Exception | None,
        earlier: tuple[object, ...],
    ) -> tuple[str, tuple[object, ...]]:
        """Why this rank's part may be torn, or "", and where it failed; raise what is no tear."""
        reason = self._broken(before, met)
        if not reason and error is not None:
            self._name(error)
            raise error
        return reason, self._refuse_again(name, error, reason, earlier)

    def _renew(self, name: str) -> None:
        """Torn files must neither be taken for the new ones nor be left among them."""
        if self._ranks.first:
            self.clear(name)
        else:
            self._mount.wait_until_serving(self._limits.repair)
        self._begin(name)

    def _torn(self, name: str, reason: str) -> NotDurableError:
        """The error of a save that was broken each time."""
        reason = f"{reason}, {REPEATS} times"
        return NotDurableError(
            f"{name} may be torn: {reason}.",
            hint=f"See what is wrong: mountkit doctor {self._mount.source} {self._mount.path}",
            unproven=(Unproven(name, 0, reason),),
        )

    def clear(self, name: str) -> bool:
        """Remove what there is of a checkpoint; False if the mount is lost each time.

        Raises MountkitError if the mount or the store does not come back, or the store refuses.
        """
        for _ in range(REPEATS):
            self._mount.wait_until_serving(self._limits.repair)
            if self._prover.remove(name):
                return True
        return False

    def _refuse_again(
        self, name: str, error: Exception | None, reason: str, earlier: tuple[object, ...]
    ) -> tuple[object, ...]:
        """Where a save failed on a mount that says no more; an error if it did there before."""
        if reason != REPORTED or not isinstance(error, OSError):
            return ()
        here = permanent_errors.place(error)
        if here == earlier and self._mount.serving():
            raise permanent_errors.again(error, self._mount, name) from error
        return here

    def _name(self, error: Exception) -> None:
        """Raise what to do about an operation that such a mount does not take."""
        known = (
            permanent_errors.unsupported(error, self._mount) if isinstance(error, OSError) else None
        )
        if known is not None:
            raise known from error

    def _seen(self) -> _Seen:
        try:
            record = self._mount.record()
        except (ConfigurationError, OSError) as error:
            # The proof looks at it once more.
            self._observer(Problem(f"Whether {self._mount.path} is lost cannot be told: {error}"))
            return _Seen(known=False)
        if record is None:
            return _Seen(serves=False)
        return _Seen(record.lost, serves=record.state == SERVING)

    def _broken(self, before: _Seen, error: Exception | None) -> str:
        """Why what was written may be torn, or ""."""

        def lost() -> bool:
            now = self._seen()
            changed = before.known and now.lost != before.lost
            return now.known and (changed or not now.serves)

        if lost() or (error is not None and wait_until(lost, self._notice)):
            return "the mount was lost while it was being saved"
        source = self._mount.spec.source
        if not isinstance(error, OSError) or refusal_in(source, str(error)) is not None:
            return ""
        if self._store_was_away():
            return "the store was out of reach while it was being saved"
        # It may have been, and be back by now: a mount tells no more than that it went wrong.
        return REPORTED if error.errno == errno.EIO else ""

    def _store_was_away(self) -> bool:
        """Whether the store is out of reach; waits for it to come back then.

        Raises MountUnavailableError if it stays away for the stall timeout.
        """
        deadline, away = time.monotonic() + self._limits.stall, False
        while (problem := self._ask()) is not None:
            if not away:
                self._observer(Problem(problem.message))
            away = True
            if time.monotonic() > deadline:
                raise problem
            time.sleep(STORE_PAUSE_SECONDS)
        return away

    def _ask(self) -> MountUnavailableError | None:
        """Why the store cannot be had right now; None if it can."""
        try:
            self._prover.store.check(write=False)
        except MountUnavailableError as error:
            return error
        return None
