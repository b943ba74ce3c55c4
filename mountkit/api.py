"""The functions of the public Python interface."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mountkit import writers
from mountkit.checkpoints.verification import CheckpointVerdict, verify
from mountkit.config.directories import cache_root, state_root
from mountkit.config.settings import Settings, load
from mountkit.errors import UsageError
from mountkit.events import Observer, silent
from mountkit.lifecycle.session import Session
from mountkit.mounts import waiting_caches, working_directory
from mountkit.mounts.location import Place
from mountkit.mounts.newest_checkpoint import newest_checkpoint
from mountkit.mounts.resolve_spec import resolve_mount_spec
from mountkit.proof.report import not_proven
from mountkit.state.registry import State
from mountkit.writers import startup_hook

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from mountkit.mounts.mount import Mount
    from mountkit.spec import MountSpec

logger = logging.getLogger("mountkit")


@contextmanager
def mount(
    source: str,
    target: str | os.PathLike[str],
    *,
    backend: str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    options: Mapping[str, str] | None = None,
    on_event: Observer = silent,
) -> Iterator[Mount]:
    """Mount a bucket, supervise it, and drain and unmount it at the end.

    Parameters
    ----------
    source:
        Where to save to: ``s3://bucket/prefix``.
    target:
        An empty directory, or one that is made: what ``output_dir`` should be. Where the current
        directory lies in it, it is the one in the mount while the body runs.
    backend, endpoint_url, region, profile, cache_dir:
        As the command-line options of the same names; what is not given comes from
        ``MOUNTKIT_*``, ``mountkit.toml`` or the store's standard variables.
    options:
        More options for the daemon, such as ``{"transfers": "8"}``.
    on_event:
        Called from any thread with the values of :mod:`mountkit.events`.

    Yields
    ------
    Mount
        With ``path``, ``source`` and ``latest_checkpoint()``.

    Raises
    ------
    MountkitError
        Before the body runs, if the mount cannot be had.
    NotDurableError
        After it, naming what was written and is not proven to be in the store. If the body
        itself raised, its own error is raised, and what is not proven is logged.
    """
    settings = load(
        backend=backend,
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        cache_dir=cache_dir,
    )
    pairs = [f"{name}={value}" for name, value in (options or {}).items()]
    spec = resolve_mount_spec(source, str(target), settings, pairs)
    _tell_what_waits(spec, settings)
    place = working_directory.place_in(spec.target)
    opened: list[Session] = []
    try:
        session = Session.open(spec, settings, on_event, keep=opened.append)
        writers.install(session.mount)
        with (
            working_directory.stepped_into(spec.target, place),
            startup_hook.handed_on(session.mount),
        ):
            yield session.mount
    except SystemExit as error:
        # sys.exit(0) in the body is a good end, and must not hide what is not proven.
        for each in opened:
            if error.code not in {None, 0}:
                _finish_after_error(each, on_event)
            else:
                _finish(each, on_event)
        raise
    except BaseException:
        for each in opened:
            _finish_after_error(each, on_event)
        raise
    else:
        _finish(session, on_event)
    finally:
        for each in opened:
            writers.uninstall(each.mount)
            _tell_what_waits(spec, settings)


def _tell_what_waits(spec: MountSpec, settings: Settings) -> None:
    """Before the mount and after it: it is not this program's, and no reason for an error."""
    known = State(state_root(settings))
    for cache in waiting_caches.waiting(known, cache_root(settings), spec):
        logger.warning("mountkit: %s", cache)


def _finish(session: Session, on_event: Observer) -> None:
    report = session.finish(on_event, ended_well=True)
    if not report.complete:
        raise not_proven(session.mount.path, report.unproven)


def _finish_after_error(session: Session, on_event: Observer) -> None:
    """Save what can be saved; the error of the body is the one that is raised."""
    report = session.finish(on_event, ended_well=False)
    for problem in report.unproven:
        logger.warning("mountkit: not proven: %s", problem)


def latest_checkpoint(
    path_or_url: str | os.PathLike[str], *, weights_only: bool = False
) -> str | None:
    """The newest checkpoint to resume from that is proven and still intact in the store.

    Each newer one that is passed over is logged, and why.

    Parameters
    ----------
    path_or_url:
        A mounted directory, or a URL. Of a directory in no mount, the newest checkpoint that has
        all its files is given: nothing can prove it.
    weights_only:
        Take one without optimizer, scheduler or RNG state, too. Trainer would go on from it with
        new ones, and not say so.

    Returns
    -------
    str or None
        Its path, if a path was given, otherwise its URL; None if there is none.

    Raises
    ------
    MountkitError
        If the store cannot be asked.
    """
    return newest_checkpoint(path_or_url, load(), weights_only=weights_only)


def verify_checkpoint(
    path_or_url: str | os.PathLike[str], level: str = "attest"
) -> CheckpointVerdict:
    """Compare a checkpoint's manifest with what the store holds now.

    Parameters
    ----------
    path_or_url:
        The checkpoint: a directory in a mount, or a URL.
    level:
        ``attest`` asks for the store's own checksums; ``readback`` reads every byte.

    Returns
    -------
    Verdict
        ``ok``, and for each file what is wrong with it, if anything.

    Raises
    ------
    VerificationError
        If there is no manifest, or it cannot be read.
    MountkitError
        If the store cannot be asked.
    """
    if level not in {"attest", "readback"}:
        raise UsageError(f"There is no level {level!r}.", hint="Use attest or readback.")
    place = Place.find(str(path_or_url), load())
    return verify(place.store(), "", level=level)
