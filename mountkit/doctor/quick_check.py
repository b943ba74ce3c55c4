"""The part that a training asks for before its first step: can it save where it is about to?"""

from __future__ import annotations

import contextlib
import errno
import secrets
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends.file_operations import OPERATIONS
from mountkit.doctor import file_operations, upload_check
from mountkit.doctor.findings import NO_ROOM
from mountkit.errors import MountkitError, MountUnavailableError, PermissionDeniedError
from mountkit.names import DOCTOR_NAME

if TYPE_CHECKING:
    from mountkit.doctor.findings import OperationResult
    from mountkit.mounts.mount import Mount

SECONDS = 10.0
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def essential(mount: Mount, seconds: float = SECONDS) -> None:
    """Try on a mount what every save does there. Takes well under a second, and leaves nothing.

    ``mount``: One that serves. ``seconds``: When to give up on a mount that hangs.

    Raises PermissionDeniedError if an operation is not allowed there; MountUnavailableError if one
    fails in another way, or hangs.
    """
    refused = backends.load(mount.spec.backend).unsupported_operations
    wanted = {
        operation.name: operation.does
        for operation in OPERATIONS
        if operation.essential and operation.name not in refused
    }
    name = f"{DOCTOR_NAME}{secrets.token_hex(4)}"
    trial = file_operations.attempt(f"{mount.path}/{name}", tuple(wanted), seconds)
    failed = next((result for result in trial.results if not result.works), None)
    if failed is None or failed.errno != errno.ETIMEDOUT:
        # A mount that hangs would be waited for a second time.
        # And what is left is harmless, which the error at hand is not.
        with contextlib.suppress(MountkitError):
            upload_check.sweep(mount.store(patience=upload_check.PATIENCE_SECONDS), [name])
    if failed is not None:
        raise _error(mount, failed, wanted[failed.operation])


def _error(mount: Mount, failed: OperationResult, does: str) -> MountkitError:
    message = f"A save to {mount.path} will fail: to {does} does not work ({failed.problem})."
    hint = f"See all of it: mountkit doctor {mount.source} {mount.path}"
    if failed.errno in NO_ROOM:
        hint = f"Make room where files wait for their upload: df -h {mount.spec.cache_dir}"
    kind = PermissionDeniedError if failed.errno in FORBIDDEN else MountUnavailableError
    return kind(message, hint=hint)
