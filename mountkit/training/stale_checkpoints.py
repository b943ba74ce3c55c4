"""What earlier trainings saved in the same place: kept out of the checkpoints of this one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import names
from mountkit.errors import NotDurableError
from mountkit.events import Problem

if TYPE_CHECKING:
    from collections.abc import Collection

    from mountkit.config.timeouts import Limits
    from mountkit.events import Observer
    from mountkit.mounts.mount import Mount
    from mountkit.training.save_retry import SaveRetrier


class StaleCheckpoints:
    """The checkpoints that others had saved when a training began, whole or torn.

    ``steps`` are those that the store has; what waits on this machine is looked for. ``own`` is
    what the training was resumed from.
    """

    def __init__(
        self,
        mount: Mount,
        output_dir: str,
        save_retrier: SaveRetrier,
        limits: Limits,
        observer: Observer,
        *,
        steps: Collection[int],
        own: Collection[int],
    ) -> None:
        self._mount = mount
        self._output_dir = Path(output_dir)
        self._save_retrier = save_retrier
        self._limits = limits
        self._observer = observer
        self._steps = {*steps, *self._waiting()} - {*own}
        self._began = time.time()

    def clear(self, step: int) -> None:
        """Remove what they saved at a step: a resume would load a stale shard or scaler.

        Not where something was written there since the training began: that is of this save.

        Raises MountkitError if it cannot be removed.
        """
        if step not in self._steps:
            return
        name = f"checkpoint-{step}"
        top = self._output_dir / name
        files = self._mount.control(self._limits.deadline).files(self._mount.relative(top))
        if any(file.modified >= self._began for file in files):
            self._observer(Problem(f"{top} was written to before the save: older files stay in it"))
        else:
            self._observer(Problem(f"{top} of an earlier training is removed: it is saved anew"))
            if not self._save_retrier.clear(name):
                raise NotDurableError(
                    f"{top} holds files of an earlier training, which would be mixed with the new "
                    "ones, and cannot be removed while the mount is being repaired.",
                    hint=f"See what becomes of the mount: mountkit status {self._mount.path}",
                )
        self._steps.discard(step)

    def _waiting(self) -> set[int]:
        """The checkpoints of which this machine has files, which may wait for their upload."""
        below = self._mount.relative(self._output_dir)
        cut = len(below) + 1 if below else 0
        files = self._mount.control(self._limits.deadline).files(below)
        steps = (names.step_of(file.path[cut:].partition("/")[0]) for file in files)
        return {step for step in steps if step is not None}
