"""From what a user asks for to what is mounted where."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends import selection
from mountkit.backends.selection import Choice
from mountkit.config.directories import cache_root
from mountkit.config.environment import search_path
from mountkit.errors import UsageError
from mountkit.linux import paths
from mountkit.linux.mount_table import lies_in
from mountkit.spec import MountSpec, mount_id
from mountkit.store import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mountkit.config.settings import Settings
    from mountkit.spec import Source

# A file system that hangs is named by the store's own check, which follows.
RESOLVE_SECONDS = 5.0
#: What ``auto`` stands for where a target is its source.
DIRECT = "direct"


def resolve_mount_spec(
    source: str,
    target: str | Path,
    settings: Settings,
    options: Sequence[str] = (),
) -> MountSpec:
    """Put together what to mount where, and refuse what makes no sense. Changes nothing.

    Raises UsageError if the URL is none, the backend does not mount it, or an option is not
    ``KEY=VALUE`` or is mountkit's own; MountUnavailableError if the backend is ``auto``, and there
    is none.
    """
    place = parse(source)
    root, directory = cache_root(settings), _directory(place)
    path = directory if is_source(target, place) else paths.resolve(target)
    choice = _choose(settings, place, root, direct=path == directory)
    backend = backends.load(choice.name)
    pairs = option_pairs(options)
    backend.check_options(pairs)
    if directory:
        _refuse_overlap(place, directory, path, paths.resolve(root), mounts=backend.mounts)
    if not backend.mounts and settings.node:
        raise UsageError(
            f"Several nodes cannot save into {place.url} directly: none of them can tell what it "
            "has written itself.",
            hint="Mount it on each node, at a directory elsewhere: "
            f"mountkit run {shlex.quote(place.url)} {_elsewhere(path)} -- …",
        )
    store = settings.store(place)
    # The first has the id of a machine alone, and its lease.
    node = str(settings.node or "")
    identifier = mount_id(place, path, store, node)
    return MountSpec(
        source=place,
        target=path,
        backend=choice.name,
        why=choice.why,
        node=node,
        store=store,
        cache_dir=str(root / identifier),
        largest_file=settings.largest_file,
        keep_local=settings.keep_local,
        cache_size=settings.cache_size,
        options=tuple(pairs),
    )


def is_source(target: str | Path, place: Source) -> bool:
    """Whether a target is the directory of this machine that a source is, by their letters.

    Of a disk that hangs only a helper may ask for more.
    """
    named = os.path.abspath(Path(target).expanduser())  # noqa: PTH100 - no link is followed
    return bool(place.directory) and named == os.path.normpath(place.directory)


def _directory(place: Source) -> str:
    """The directory of this machine that a source is, without links; "" if it is none."""
    return place.directory and paths.resolve_within(place.directory, RESOLVE_SECONDS)


def _choose(settings: Settings, place: Source, root: Path, *, direct: bool) -> Choice:
    """The backend; ``direct``: Whether the target is the source."""
    if direct and settings.backend in {"auto", DIRECT}:
        why = "" if settings.backend == DIRECT else "the target is the source itself"
        return Choice(DIRECT, why)
    if settings.backend == "auto":
        return selection.choose(search_path(), root, scheme=place.scheme)
    selection.refuse_scheme(settings.backend, place.scheme)
    return Choice(settings.backend, "")


def _elsewhere(directory: str) -> str:
    return shlex.quote(f"/tmp/{Path(directory).name}")  # noqa: S108 - such as


def _refuse_overlap(
    source: Source, directory: str, target: str, cache: str, *, mounts: bool
) -> None:
    """A mount over its own source would wait for itself, and one within it would show itself."""
    if mounts and (lies_in(target, directory) or lies_in(directory, target)):
        raise UsageError(
            f"{target} and the source, {directory}, lie in each other.",
            hint=f"To save into the source itself, give it as TARGET, too: {directory}. To mount "
            "it, give an empty directory elsewhere, on this machine's own disk: "
            f"mountkit run {shlex.quote(source.url)} {_elsewhere(directory)} -- …",
        )
    if lies_in(cache, directory):
        raise UsageError(
            f"The cache, {cache}, lies in the source, {directory}.",
            hint="Name a directory below it, such as "
            f"{shlex.quote(source.child('run-1').url)}; or put the cache elsewhere: --cache-dir",
        )


def option_pairs(options: Sequence[str]) -> list[tuple[str, str]]:
    """What is passed on to the daemon, by name.

    Raises UsageError if one of them is not ``KEY=VALUE``.
    """
    pairs = []
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key:
            raise UsageError(
                f"--option {option!r} is not KEY=VALUE.", hint="Such as: --option transfers=8"
            )
        pairs.append((key.lstrip("-"), value))
    return pairs
