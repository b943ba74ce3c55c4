"""Send what is saved below a mount through a sequential file, and nothing else.

And have the removal of a directory that went with its last file succeed, see ``removal``.

``safetensors.torch``, ``safetensors.numpy`` and ``torch`` each have one function that takes the
path. It is replaced while a mount is installed, at once or when the module gets imported; none is
imported here. Who took a name before, as by ``from torch import save``, has the old function;
``save_file`` and ``save_model`` of safetensors look theirs up at each call.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a type of the public value below
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mountkit import backends
from mountkit.errors import MountkitError
from mountkit.linux import mount_table
from mountkit.state.write_journal import Journal
from mountkit.writers import metadata_rename, removal, safetensors
from mountkit.writers.import_hook import Watcher
from mountkit.writers.sequential_file import (
    ON_SEQUENTIAL_MOUNT,
    SYSTEM,
    Calls,
    SequentialFile,
    no_reason,
    no_stamp,
    stamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mountkit.mounts.mount import Mount

    Function = Callable[..., Any]

#: The functions to replace, once a module is imported: in which module each is found.
FUNCTIONS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "safetensors.torch": (("safetensors.torch", "serialize_file"),),
        "safetensors.numpy": (("safetensors.numpy", "serialize_file"),),
        "torch": (("torch", "save"), ("torch.serialization", "save")),
        **metadata_rename.FUNCTIONS,
        **removal.FUNCTIONS,
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """A mount whose files are to be written sequentially.

    ``path``: Where it is mounted, with no links in it. ``directory``: Where its journal is.
    ``mounted``: Whether it is mounted right now; otherwise the libraries write as ever.
    ``explain``: What is known of a failed write, from the path relative to the mount; "" for
    nothing. ``emptied``: When a file below a directory was last removed, from the path relative to
    the mount. ``calls``: The system calls. ``renames``: Whether a file can be renamed there.
    """

    path: str
    directory: Path
    mounted: Callable[[], bool]
    explain: Callable[[str], str] = no_reason
    emptied: Callable[[str], float] = removal.never
    calls: Calls = SYSTEM
    renames: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A file in a place: ``path`` is absolute, ``name`` relative to the place."""

    place: Place
    path: str
    name: str

    def open(self) -> SequentialFile:
        """Begin to write it.

        Raises OSError if it cannot be opened, or its beginning not be noted.
        """
        journal = Journal(self.place.directory)
        place = self.place
        return SequentialFile(
            self.path,
            self.name,
            place.path,
            journal,
            explain=place.explain,
            calls=place.calls,
            stamped=stamp if place.renames else no_stamp,
        )

    def emptied(self) -> float:
        """When a file below it was last removed through the mount; 0 if that is not known."""
        # The log is read by somebody else's code, whose own error says all that there is to say.
        with contextlib.suppress(OSError, MountkitError):
            return self.place.emptied(self.name)
        return 0.0


def target_of(places: Iterable[Place], path: object) -> Target | None:
    """Where ``path`` lies, if it is a path (no file object) below one of the places."""
    if not isinstance(path, str | os.PathLike):
        return None
    name = os.fspath(path)
    if not isinstance(name, str):
        return None
    head, tail = os.path.split(name)
    if tail in {"", ".", ".."}:
        return None
    try:
        folder = os.path.realpath(head or ".")
    except (OSError, ValueError):
        # The library has its own words for a path that cannot be.
        return None
    full = f"{folder.rstrip('/')}/{tail}"
    inside = [place for place in places if full.startswith(f"{place.path}/")]
    place = max(inside, key=lambda one: len(one.path), default=None)
    return None if place is None else Target(place, full, full[len(place.path) + 1 :])


@dataclass(frozen=True, slots=True)
class _Patch:
    module: Any
    name: str
    original: Function
    hooked: Function


class Hooks:
    """The replaced functions of this process, and the places they are replaced for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # One for each registration; a reader takes the tuple as it is, without the lock.
        self._places: tuple[Place, ...] = ()
        self._patches: list[_Patch] = []
        self._watcher = Watcher(FUNCTIONS, self._imported)
        # Another thread may have held the lock when the process was forked.
        os.register_at_fork(after_in_child=self._renew_lock)

    def add(self, place: Place) -> None:
        """Register a place. One that is registered twice has to be removed twice."""
        with self._lock:
            self._places = (*self._places, place)
            if self._watcher not in sys.meta_path:
                sys.meta_path.insert(0, self._watcher)
            for module in FUNCTIONS:
                if module in sys.modules:
                    self._replace(module)

    def remove(self, path: str) -> None:
        """Take back one registration of the place at ``path``; with the last one all is undone."""
        with self._lock:
            found = next((place for place in self._places if place.path == path), None)
            places = list(self._places)
            if found is not None:
                places.remove(found)
            self._places = tuple(places)
            if not places:
                self._undo()

    def target(self, path: object) -> Target | None:
        """The file that ``path`` is, if it is to be written sequentially."""
        places = self._places
        found = target_of(places, path) if places else None
        return found if found is not None and found.place.mounted() else None

    def _imported(self, module: str) -> None:
        with self._lock:
            if self._places:
                self._replace(module)

    def _replace(self, module: str) -> None:
        make = MAKERS.get(module, _serialize_file)
        for home, dotted in FUNCTIONS[module]:
            holder, name = _holder(home, dotted)
            current = getattr(holder, name, None)
            done = any((patch.module, patch.name) == (holder, name) for patch in self._patches)
            if current is None or done:
                continue
            # Found in two modules, it is one function, and stays one.
            shared = (patch.hooked for patch in self._patches if patch.original is current)
            hooked = next(shared, None) or make(self, current)
            setattr(holder, name, hooked)
            # What shutil looks at when it is imported, to remove a tree in the safe way.
            if current in os.supports_dir_fd:
                os.supports_dir_fd.add(hooked)
            self._patches.append(_Patch(holder, name, current, hooked))

    def _undo(self) -> None:
        if self._watcher in sys.meta_path:
            sys.meta_path.remove(self._watcher)
        for patch in self._patches:
            # Whoever replaced it after us calls ours, which passes everything on from now.
            if getattr(patch.module, patch.name, None) is patch.hooked:
                setattr(patch.module, patch.name, patch.original)
            os.supports_dir_fd.discard(patch.hooked)
        self._patches.clear()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


def _holder(home: str, dotted: str) -> tuple[Any, str]:
    """What has a function, a module or a class in it, and its name there."""
    *path, name = dotted.split(".")
    holder: Any = sys.modules.get(home)
    for part in path:
        holder = getattr(holder, part, None)
    return holder, name


def _serialize_file(hooks: Hooks, original: Function) -> Function:
    @functools.wraps(original)
    def serialize_file(tensor_dict: Any, filename: Any, metadata: Any = None, **more: Any) -> Any:
        # An argument of a later version is none that is understood here.
        target = None if more else hooks.target(filename)
        if target is None or safetensors.in_place(original):
            return original(tensor_dict, filename, metadata=metadata, **more)
        # Before the file is opened: what the library refuses leaves the old file alone.
        content = safetensors.layout(tensor_dict, metadata)
        with target.open() as file:
            safetensors.write(content, file)
        return None

    return serialize_file


def _save(hooks: Hooks, original: Function) -> Function:
    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **options: Any) -> Any:
        target = hooks.target(f)
        if target is None:
            return original(obj, f, *args, **options)
        with target.open() as file:
            try:
                return original(obj, file, *args, **options)
            except Exception as error:
                # torch ends its archive all the same, and then complains of that only.
                if file.error is None or file.error is error:
                    raise
                raise file.error from error

    return save


def _rename(hooks: Hooks, original: Function) -> Function:
    @functools.wraps(original)
    def rename(it: Any, path: Any, new_path: Any) -> None:
        target = hooks.target(new_path) if metadata_rename.is_metadata(new_path) else None
        if target is None or target.place.renames:
            original(it, path, new_path)
        else:
            metadata_rename.move(path, target.open())

    return rename


def _rmdir(hooks: Hooks, original: Function) -> Function:
    taken = removal.Taken()

    @functools.wraps(original)
    def rmdir(path: Any, *, dir_fd: int | None = None) -> None:
        try:
            original(path, dir_fd=dir_fd)
        except FileNotFoundError:
            target = hooks.target(removal.plain(path, dir_fd))
            if target is None or not taken.new(target.path, target.emptied()):
                raise

    return rmdir


#: Who makes what stands in for a module's functions, where it is none of the safetensors'.
MAKERS: Mapping[str, Callable[[Hooks, Function], Function]] = MappingProxyType(
    {
        "torch": _save,
        **dict.fromkeys(metadata_rename.FUNCTIONS, _rename),
        **dict.fromkeys(removal.FUNCTIONS, _rmdir),
    }
)

HOOKS = Hooks()


def install(mount: Mount) -> None:
    """Write what is saved below ``mount`` sequentially, until :func:`uninstall`.

    Nothing is done for a mount that takes any write, and keeps what it was given. Installed twice,
    it has to be uninstalled twice.
    """
    if backends.load(mount.spec.backend).journaled:
        HOOKS.add(place_of(mount))


def place_of(mount: Mount) -> Place:
    """A mount whose files are to be noted as they are written."""
    if takes_any_write(mount):
        return noted_place(mount.path, mount.directory.path)
    mounted = functools.partial(in_table, mount.path)
    control, calls = mount.control(), ON_SEQUENTIAL_MOUNT
    known = (control.explain, control.emptied)
    return Place(mount.path, mount.directory.path, mounted, *known, calls)


def uninstall(mount: Mount) -> None:
    """Take back one :func:`install` of that mount. Without any left, nothing is replaced."""
    HOOKS.remove(mount.path)


def takes_any_write(mount: Mount) -> bool:
    """Whether files are only noted there, and need not be written from start to end."""
    return "rename" not in backends.load(mount.spec.backend).unsupported_operations


def noted_place(path: str, directory: Path) -> Place:
    """A directory that is no mount of ours: what is saved there is noted, as long as it can be."""
    return Place(path, directory, directory.is_dir, renames=True)


def in_table(path: str) -> bool:
    """Whether anything is mounted at ``path``."""
    return mount_table.at(path) is not None
