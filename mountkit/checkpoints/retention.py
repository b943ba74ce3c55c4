"""Which proven checkpoints may go, and removing one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.checkpoints.verification import inside
from mountkit.errors import UsageError
from mountkit.names import MANIFEST_NAME, step_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mountkit.store.base import Store


def retention(
    proven: Iterable[int],
    keep: int | None,
    protected: Collection[int] = (),
    foreign: Collection[int] = (),
) -> tuple[int, ...]:
    """The steps that may go, the oldest first.

    Parameters
    ----------
    proven:
        The steps of proven checkpoints.
    keep:
        How many of the newest stay. All do for None, and for 0 or less, as Trainer reads its
        ``save_total_limit`` (transformers 5.23, ``trainer_utils.py``, rotate_checkpoints).
    protected:
        Steps that stay in any case, such as the best and the one resumed from. They do not count
        towards ``keep``.
    foreign:
        Those of trainings that this one does not descend from. They go before all others, as this
        training's own take their places.
    """
    if keep is None or keep <= 0:
        return ()
    old = sorted(set(proven), key=lambda step: (step not in foreign, step))[:-keep]
    return tuple(step for step in old if step not in protected)


def remove(store: Store, name: str) -> None:
    """Delete a checkpoint from the store: its manifest first, so that no torn one looks proven.

    Raises UsageError if ``name`` is not that of a checkpoint; PermissionDeniedError if the store
    refuses.
    """
    if step_of(name) is None:
        raise UsageError(
            f"{name!r} is not the name of a checkpoint, so it is not deleted.",
            hint="Name a directory such as checkpoint-30.",
        )
    own = inside(name, MANIFEST_NAME)
    store.delete([own])
    store.delete(item.path for item in store.list(name, markers=True) if item.path != own)
