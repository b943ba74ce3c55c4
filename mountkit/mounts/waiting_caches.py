"""Files that wait for their upload in the cache of another mount: nobody else would tell of them.

A cache is named after the source *and* the target of its mount. Whoever mounts the same source at
another target finds an empty one, and what a run that was killed has left waits for ever.
"""

from __future__ import annotations

import logging
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import MountUnavailableError
from mountkit.formatting import count, printable, timestamp
from mountkit.names import is_own
from mountkit.state import cache_lock

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from mountkit.backends.base import WrittenFile
    from mountkit.spec import MountSpec, Source
    from mountkit.state.registry import State

logger = logging.getLogger("mountkit")


@dataclass(frozen=True, slots=True)
class WaitingCache:
    """So many files, with so many bytes, that wait in a cache since that time (RFC 3339).

    ``target`` is empty where nobody knows it any more. ``held`` says that a process has the cache,
    and uploads what is in it. ``command`` brings the files to the bucket.
    """

    source: str
    target: str
    cache_dir: str
    files: int
    bytes: int
    since: str
    held: bool
    command: str

    def __str__(self) -> str:
        files = f"{count(self.files)} ({self.bytes:,} bytes)"
        place = f"of a mount at {printable(self.target)}" if self.target else "of another mount"
        text = (
            f"{files} {place} wait for their upload to {self.source} since {self.since}, in "
            f"{self.cache_dir}"
        )
        if self.held:
            return f"{text}; a process that is running has them, see: mountkit status"
        if not self.command:
            return f"{text}; mount {self.source} once more where it was mounted then"
        return f"{text}; nobody uploads them now, but this does: {self.command}"


def waiting(
    known: State, root: Path, spec: MountSpec | None = None, without: Container[str] = ()
) -> tuple[WaitingCache, ...]:
    """The caches in which files wait, by what is known of mounts, and by the caches themselves.

    ``root``: Where the caches are kept. ``spec``: A mount that is about to be made: only the other
    caches count, and only those of the same bucket whose prefix is this one's, or lies above or
    below it. How the store is reached does not matter: one store has many names. ``without``:
    Caches that somebody tells of otherwise.
    """
    left = {record.spec.cache_dir: record.spec for record in known.left()}
    for cache in _caches(root):
        owner = cache_lock.owner(cache)
        if owner is not None:
            left.setdefault(str(cache), owner)
        elif spec is not None:
            # An earlier version wrote down nothing; the layout of a cache tells the source.
            left.setdefault(str(cache), replace(spec, target="", cache_dir=str(cache)))
    found = (
        _look(other, known)
        for place, other in sorted(left.items())
        if place not in without
        and (spec is None or (place != spec.cache_dir and _overlap(other.source, spec.source)))
    )
    return tuple(cache for cache in found if cache is not None)


def _caches(root: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in root.iterdir() if path.is_dir())
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("mountkit: whether files wait in %s is not known: %s", root, error.strerror)


def _overlap(one: Source, other: Source) -> bool:
    if (one.scheme, one.bucket) != (other.scheme, other.bucket):
        return False
    first, second = (f"{place.prefix}/" if place.prefix else "" for place in (one, other))
    return first.startswith(second) or second.startswith(first)


def _look(spec: MountSpec, known: State) -> WaitingCache | None:
    if not Path(spec.cache_dir).exists():
        # Somebody has given it up.
        return None
    files: list[WrittenFile] = []
    names = [name for name in backends.NAMES if backends.load(name).write_back]
    name = next(iter(names), spec.backend)
    for each in names:
        control = backends.load(each).control(spec, known.root / spec.id)
        try:
            found = [file for file in control.files() if file.dirty and not is_own(file.path)]
        except (MountUnavailableError, OSError) as error:
            reason = error.message if isinstance(error, MountUnavailableError) else error
            logger.warning(
                "mountkit: whether files wait in %s is not known: %s", spec.cache_dir, reason
            )
            continue
        if found:
            name = each
        files += found
    if not files:
        return None
    return WaitingCache(
        source=spec.source.url,
        target=spec.target,
        cache_dir=spec.cache_dir,
        files=len(files),
        bytes=sum(file.size for file in files),
        since=timestamp(min(file.modified for file in files)),
        held=not cache_lock.is_free(spec),
        command=_command(spec, name) if spec.target else "",
    )


def _command(spec: MountSpec, backend: str) -> str:
    words = ["mountkit", "run", spec.source.url, spec.target, "--backend", backend]
    for flag, value in asdict(spec.store).items():
        if value:
            words += [f"--{flag.replace('_', '-')}", value]
    words += ["--cache-dir", str(Path(spec.cache_dir).parent), "--", "true"]
    return shlex.join(words)
