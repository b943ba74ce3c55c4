"""Will this run save? The machine, the bucket and the mount, each tried in seconds beforehand."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends import selection
from mountkit.config import directories, environment
from mountkit.doctor import machine, mount_check, store_check
from mountkit.doctor.findings import Diagnosis, Finding, OperationResult, diagnose
from mountkit.doctor.mount_check import Tried
from mountkit.doctor.quick_check import essential
from mountkit.errors import MountUnavailableError
from mountkit.mounts.resolve_spec import DIRECT, is_source, resolve_mount_spec
from mountkit.names import DOCTOR_NAME
from mountkit.store import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mountkit.config.settings import Settings


__all__ = ["Diagnosis", "Finding", "OperationResult", "essential", "examine"]


def examine(
    settings: Settings,
    source: str | None = None,
    target: str | None = None,
    *,
    options: Sequence[str] = (),
    checkpoint: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """Try all that a run will need, and give a verdict.

    Parameters
    ----------
    settings:
        As for the run.
    source:
        The URL to save to. Without one only the machine is looked at.
    target:
        Where the run will mount it. Without one it is mounted at a directory that goes again.
    options:
        Further options for the daemon, each ``KEY=VALUE``.
    checkpoint:
        Bytes of the largest checkpoint, if that is known.
    tell:
        Told what is done next, for people.

    Raises UsageError if the URL, the backend or an option makes no sense. Whatever else is wrong is
    a finding.
    """
    place = None if source is None else parse(source)
    tell("looking at this machine")
    scheme = "" if place is None else place.scheme
    if settings.backend == "auto" and place and target and is_source(target, place):
        settings = replace(settings, backend=DIRECT)
    backend, findings = _machine(settings, checkpoint, scheme)
    if place is None:
        refused = backends.load(backend).unsupported_operations if backend else frozenset()
        return diagnose(findings, (), backend, refused, source=None)
    chosen = replace(settings, backend=backend or "auto")
    name = f"{DOCTOR_NAME}{secrets.token_hex(4)}"
    with _directory(target) as path:
        spec = resolve_mount_spec(place.url, path, chosen, options) if backend else None
        tell(f"trying {place.url}")
        findings = (*findings, *store_check.examine(place, settings.store(place), name))
        failed = next((finding for finding in findings if finding.status == "failed"), None)
        if spec is None or failed is not None:
            why = f"Not tried: see {failed.title}." if failed else "Not tried."
            tried = Tried(backend, (Finding("mount", "mount", "skipped", why),))
        else:
            mounts = backends.load(spec.backend).mounts
            tell(f"{'mounting it at ' if mounts else ''}{spec.target}: saving there")
            tried = mount_check.examine(spec, chosen, name, keep=target is not None)
    refused = backends.load(tried.backend).unsupported_operations if tried.backend else frozenset()
    return diagnose(
        (*findings, *tried.findings), tried.operations, tried.backend, refused, source=place.url
    )


def _machine(
    settings: Settings, checkpoint: int | None, scheme: str
) -> tuple[str, tuple[Finding, ...]]:
    """The backend, "" if there is none to be had, and what was found on this machine."""
    search_path, cache_root = environment.search_path(), directories.cache_root(settings)
    backend = settings.backend
    if backend == "auto":
        try:
            backend = selection.choose(search_path, cache_root, scheme=scheme).name
        except MountUnavailableError as error:
            return "", (Finding.of("binary", "program to mount with", error),)
    loaded = backends.load(backend)
    return backend, machine.examine(loaded, search_path, cache_root, checkpoint)


@contextmanager
def _directory(target: str | None) -> Iterator[str]:
    """The one that was named, or one of our own, which is removed again."""
    if target is not None:
        yield target
        return
    path = tempfile.mkdtemp(prefix="mountkit-doctor-")
    try:
        yield path
    finally:
        # Never what may still be mounted there: only an empty directory goes.
        with suppress(OSError):
            Path(path).rmdir()
