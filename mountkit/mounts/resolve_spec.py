"""From what a user asks for to what is mounted where."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends import selection
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
    root = cache_root(settings)
    name, why = settings.backend, ""
    if name == "auto":
        choice = selection.choose(search_path(), root, scheme=place.scheme)
        name, why = choice.name, choice.why
    backend = backends.load(name)
    selection.refuse_scheme(name, place.scheme)
    pairs = option_pairs(options)
    backend.check_options(pairs)
    path = paths.resolve(target)
    _refuse_overlap(place, path, str(root))
    store = settings.store(place)
    # The first has the id of a machine alone, and its lease.
    node = str(settings.node or "")
    identifier = mount_id(place, path, store, node)
    return MountSpec(
        source=place,
        target=path,
        backend=name,
        why=why,
        node=node,
        store=store,
        cache_dir=str(root / identifier),
        largest_file=settings.largest_file,
        keep_local=settings.keep_local,
        cache_size=settings.cache_size,
        options=tuple(pairs),
    )


def _refuse_overlap(source: Source, target: str, cache: str) -> None:
    """A mount over its own source would wait for itself, and one within it would show itself."""
    if not source.directory:
        return
    directory = paths.resolve_within(source.directory, RESOLVE_SECONDS)
    if lies_in(target, directory) or lies_in(directory, target):
        elsewhere = shlex.quote(f"/tmp/{Path(directory).name}")  # noqa: S108 - such as
        raise UsageError(
            f"{target} and the source, {directory}, lie in each other.",
            hint="Mount it at an empty directory elsewhere, on this machine's own disk: "
            f"mountkit run {shlex.quote(source.url)} {elsewhere} -- …",
        )
    if lies_in(paths.resolve(cache), directory):
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
