"""Symbolic links: in a bucket each is an object of its own, whose content is where it leads.

The object has the name of the link and a suffix of the daemon's. A manifest lists it by that key,
as any other file.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import Unproven
from mountkit.formatting import printable
from mountkit.linux.mount_table import lies_in
from mountkit.mounts.link_names import leaves, shown, twice
from mountkit.names import top_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mountkit.mounts.mount import Mount
    from mountkit.store.base import ObjectInfo, Store
    from mountkit.timing import Deadline

LONGEST_TARGET = 4096


def refused(
    mount: Mount,
    top: str,
    paths: Iterable[str],
    stored: Callable[[str], bytes | None],
    deadline: Deadline,
) -> tuple[Unproven, ...]:
    """The links of a checkpoint that lead out of it, and files that would come back as links.

    What such a link leads to may change, or be removed with an older checkpoint.

    ``mount``, ``top``: The checkpoint's directory, relative to the mount. ``paths``: Its files,
    relative to the mount. ``stored``: The content of an object of that path, where this machine
    does not have it. ``deadline``: The mount is not asked after it.
    """
    suffix = backends.load(mount.spec.backend).links
    links = sorted(path for path in paths if shown(path, suffix))
    if not links:
        return ()
    control = mount.control(deadline)
    found = list(disguised(mount, links, deadline))
    for path in sorted(set(links).difference(problem.path for problem in found)):
        content = control.content(path)
        content = stored(path) if content is None else content
        target = (content or b"")[:LONGEST_TARGET].decode(errors="surrogateescape")
        if leaves(target, path, top):
            reason = (
                f"it is a link to {printable(target)}, which leads out of the checkpoint; "
                "copy what it leads to, or link to a file of the checkpoint by a relative path"
            )
            found.append(Unproven(path, len(target), reason))
    return tuple(found)


def disguised(mount: Mount, paths: Iterable[str], deadline: Deadline) -> Iterator[Unproven]:
    """Files that no link made, and that have the name of one: the next mount shows a link."""
    suffix = backends.load(mount.spec.backend).links
    names = {path: shown(path, suffix) for path in paths}
    names = {path: name for path, name in names.items() if name}
    if not names:
        return
    gone = mount.missing([*names, *names.values()], deadline)
    for path, name in sorted(names.items()):
        if name in gone and path not in gone:
            reason = f"its name ends in {suffix}, and the next mount would show a link; rename it"
            yield Unproven(path, 0, reason)


def doubtful(
    mount: Mount,
    store: Store,
    listed: Iterable[ObjectInfo],
    paths: Iterable[str],
    deadline: Deadline,
) -> tuple[Unproven, ...]:
    """What a later mount would not show as it is: written as a file and as a link, or disguised.

    rclone renames a link onto a file, or a file onto a link, and leaves the other one in the
    bucket. ``listed`` is what the store had before the proof, which brings the rest of ``paths``.

    Raises MountkitError if the store cannot be asked.
    """
    suffix = backends.load(mount.spec.backend).links
    written = frozenset(paths)
    if not suffix or not written:
        return ()
    found = list(disguised(mount, written, deadline))
    there = {*written, *(info.path for info in listed)}
    pairs = [pair for pair in twice(sorted(there), suffix) if not written.isdisjoint(pair)]
    stored = store.stat_many(sorted({path for pair in pairs for path in pair}))
    for name, link in pairs:
        if stored[name] is not None and stored[link] is not None:
            reason = (
                "the bucket has both, the file and the link, of which one was to take the place of "
                "the other, and a later mount shows either; remove the older one from the bucket"
            )
            # Not by the name of one of them: that one would be uploaded again by the next run.
            found.append(Unproven(f"{name} and {link}", 0, reason))
    return tuple(found)


def leading_out(
    mount: Mount, store: Store, listed: Iterable[str], paths: Iterable[str], deadline: Deadline
) -> tuple[str, ...]:
    """Links that lead out of the mount, in words: what they lead to is not in the bucket.

    ``listed`` are all objects, ``paths`` what this run has written. A link that an earlier run has
    left leads out what this one writes; one in a checkpoint has been refused by its proof.

    Raises MountkitError if the store, or a directory without a mount, cannot be asked.
    """
    suffix = backends.load(mount.spec.backend).links
    control = mount.control(deadline)
    old = (path for path in listed if shown(path, suffix) and not top_of(path))
    said = [
        f"{printable(path)} is a link that leads out of the directory: what it leads to is not "
        "proven"
        for path in control.links_out()
    ]
    for path in sorted({*paths, *old}):
        name = shown(path, suffix)
        data = (control.content(path) or store.get(path) or b"") if name else b""
        target = data[:LONGEST_TARGET].decode(errors="replace")
        place = posixpath.normpath(posixpath.join(mount.path, posixpath.dirname(path), target))
        if target and not lies_in(place, mount.path):
            said.append(
                f"{printable(name)} is a link that leads out of the mount, to {printable(target)}: "
                "what it leads to is not in the bucket"
            )
    return tuple(said)
