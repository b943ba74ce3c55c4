"""Does a file that is written into the mount arrive in the bucket? The store is asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.checkpoints.attestation import attest_object
from mountkit.doctor import file_operations, file_operations_child
from mountkit.doctor.findings import UNAVAILABLE, Finding
from mountkit.errors import MountkitError, PermissionDeniedError
from mountkit.store import checksums, provider, refusal_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mountkit.mounts.mount import Mount
    from mountkit.store.base import Store

STEP_SECONDS = 10.0
SECONDS = 20.0
PATIENCE_SECONDS = 6.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.5
NAME, TITLE = "arrival", "a file arrives"


def examine(mount: Mount, name: str, seconds: float = SECONDS) -> Finding:
    """Write a file in the directory ``name`` of the mount, and wait until the store attests it.

    The directory is removed again, through the mount. ``seconds`` bounds the wait for the upload.
    """
    directory = f"{mount.path}/{name}"
    began = time.monotonic()
    problem = file_operations.leave(directory, STEP_SECONDS)
    try:
        if problem:
            return _failed(f"A file cannot be written to {mount.path}: {problem}.", mount)
        return _wait(mount, f"{name}/{file_operations_child.ARRIVAL}", began, seconds)
    except MountkitError as error:
        return Finding.of(NAME, TITLE, error)
    finally:
        file_operations.remove(directory, STEP_SECONDS)


def _wait(mount: Mount, path: str, began: float, seconds: float) -> Finding:
    control = mount.control()
    store = mount.store(patience=PATIENCE_SECONDS)
    digest = checksums.digest_bytes(file_operations_child.BODY, (checksums.REFERENCE, "md5"))
    pause, said = FIRST_PAUSE_SECONDS, "it says nothing of an error"
    while time.monotonic() - began < seconds:
        pending = control.flush_uploads()
        said = dict((*pending.errors, *pending.lost)).get(path, said)
        if refusal_in(mount.spec.source, said) is not None:
            detail = f"The store refuses what {mount.spec.backend} uploads: {said}"
            sees = provider(mount.spec.source.scheme).daemon_credentials
            hint = f"Give the daemon credentials that may write: it sees {sees} only"
            return Finding(NAME, TITLE, "failed", detail, hint, PermissionDeniedError.exit_code)
        verdict = attest_object(store, path, digest)
        if verdict.ok:
            took = time.monotonic() - began
            by = verdict.attested_by.upper()
            return Finding(NAME, TITLE, "ok", f"in the bucket after {took:.1f} s, proven by {by}")
        # Where a file is there from its first byte on, one that is on its way is not whole yet.
        if verdict.problem != "missing" and path not in pending.waiting:
            detail = f"A file saved to {mount.path} arrives as {verdict.found}; {verdict.expected}"
            return _failed(f"{detail} was written.", mount)
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
    return _failed(
        f"A file saved to {mount.path} is not in the bucket after {seconds:g} s; "
        f"{mount.spec.backend} was asked, and {said}.",
        mount,
    )


def _failed(detail: str, mount: Mount) -> Finding:
    hint = f"Read the log of {mount.spec.backend}: less {mount.directory.log}"
    return Finding(NAME, TITLE, "failed", detail, hint, UNAVAILABLE)


def sweep(store: Store, names: Sequence[str]) -> None:
    """Delete what is in the bucket below these directories.

    Raises MountkitError if the store does not answer, or refuses.
    """
    found = [item.path for name in names for item in store.list(name, markers=True)]
    if found:
        store.delete(found)


def tidy(mount: Mount, names: Sequence[str], left: Sequence[str]) -> tuple[Finding, ...]:
    """See that nothing stays of the trial; a finding if something does, by name.

    ``left`` are paths on the mount that could not be removed there.
    """
    # Where nothing waits on this machine, what the mount shows and the store does not have any more
    # is only remembered, by a daemon that may do that (metadata-ttl).
    stays = left if backends.load(mount.spec.backend).write_back else ()
    try:
        sweep(mount.store(patience=PATIENCE_SECONDS), names)
    except MountkitError as error:
        stays = (*left, error.message)
    if not stays:
        return ()
    urls = [mount.spec.source.child(name).url for name in names]
    return (
        Finding(
            "leftover-mount",
            "cleaning up the mount",
            "warning",
            f"What was written to try may be left: {'; '.join(stays)}",
            f"See what is there: {provider(mount.spec.source.scheme).list_command(urls[0])}",
        ),
    )
