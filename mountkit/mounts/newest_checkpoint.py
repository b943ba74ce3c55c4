"""What to resume from: in a bucket, in a mount, or in a directory of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.checkpoints import newest
from mountkit.config.directories import state_root
from mountkit.mounts.location import Place
from mountkit.mounts.mount import Mount
from mountkit.state.registry import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.config.settings import Settings


def newest_checkpoint(
    path_or_url: str | os.PathLike[str],
    settings: Settings,
    *,
    weights_only: bool = False,
    on_skip: Callable[[str, str], None] = newest.warn,
) -> str | None:
    """The newest checkpoint to resume from, as a path or URL like the one given; None without one.

    In a bucket or a mount, one that is proven and intact in the store. In a local directory no
    store proves anything: the one of the highest step that has all its files. ``on_skip`` is called
    with the name of each newer one, and why it was passed over.

    Raises MountkitError if the store cannot be asked, OSError if the directory cannot be read.
    """
    text = os.fspath(path_or_url)
    if "://" not in text and Mount.containing(text, State(state_root(settings))) is None:
        top = Path(text)
        name = newest.in_directory(top, weights_only=weights_only, on_skip=on_skip)
        return None if name is None else str(top / name)
    place = Place.find(text, settings)
    name = newest.in_store(place.store(), weights_only=weights_only, on_skip=on_skip)
    return None if name is None else place.child(name)
