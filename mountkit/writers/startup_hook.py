"""How a mount is handed to the Pythons that are started below it: by their environment."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.writers.hooks import HOOKS, Place, in_table, noted_place, takes_any_write
from mountkit.writers.sequential_file import ON_SEQUENTIAL_MOUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mountkit.backends.base import Control
    from mountkit.mounts.mount import Mount

VARIABLE = "MOUNTKIT_SEQUENTIAL_MOUNT"
FOLDER = Path(__file__).parent / "startup"


def environment(mount: Mount, env: Mapping[str, str]) -> dict[str, str]:
    """``env`` with what makes a Python note what it writes below ``mount``."""
    place = {"path": mount.path, "directory": str(mount.directory.path)}
    if takes_any_write(mount):
        place["sequential"] = ""
    return found_first({**env, VARIABLE: json.dumps(place)})


def found_first(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` with which a Python runs ``startup/sitecustomize.py`` before its program."""
    others = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path != str(FOLDER)]
    paths = [str(FOLDER), *(others if any(others) else [])]
    return {**env, "PYTHONPATH": os.pathsep.join(paths)}


@contextlib.contextmanager
def handed_on(mount: Mount) -> Iterator[None]:
    """While this lasts, what this process starts has that environment, if the mount needs it.

    A forked child has what is replaced here anyway; one that multiprocessing spawns has not.
    """
    if not backends.load(mount.spec.backend).journaled:
        yield
        return
    before, ours = dict(os.environ), environment(mount, os.environ)
    changed = {name: value for name, value in ours.items() if before.get(name) != value}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in changed.items():
            # Whoever has changed it since means what it is now.
            if os.environ.get(name) == value:
                if name in before:
                    os.environ[name] = before[name]
                else:
                    del os.environ[name]


def install(env: Mapping[str, str]) -> None:
    """Note what is written below the mount that the environment names, if it names one.

    Imports as little as it can, for every Python that a command starts comes through here.
    """
    text = env.get(VARIABLE)
    if not text:
        return
    place = json.loads(text)
    path = place["path"]
    if "sequential" in place:
        HOOKS.add(noted_place(path, Path(place["directory"])))
        return
    HOOKS.add(sequential_place(path, Path(place["directory"])))


def sequential_place(path: str, directory: Path) -> Place:
    """A mount for sequential writes alone, told by where it is and its private directory."""
    mounted = functools.partial(in_table, path)
    known = (functools.partial(_explain, path), functools.partial(_emptied, path))
    return Place(path, directory, mounted, *known, ON_SEQUENTIAL_MOUNT)


def _explain(path: str, name: str) -> str:
    """What the daemon of the mount at ``path`` says of a failed write. Only ever after one."""
    control = _control(path)
    return "" if control is None else control.explain(name)


def _emptied(path: str, name: str) -> float:
    """When a file of that directory was last removed. Only for one that is not there."""
    control = _control(path)
    return 0.0 if control is None else control.emptied(name)


def _control(path: str) -> Control | None:
    from mountkit.mounts.mount import Mount

    mount = Mount.containing(path)
    return None if mount is None else mount.control()
