"""What was found, as values, and what follows from it. No I/O."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mountkit.backends.file_operations import OPERATIONS, Operation
from mountkit.errors import MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mountkit.errors import MountkitError

Status = Literal["ok", "warning", "failed", "skipped"]

UNAVAILABLE = MountUnavailableError.exit_code
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``name``: Stable, for programs: ``put``, ``room``. ``title``: The same for people. ``status``:
    ``ok``; ``warning``: the run will save, but mind this; ``failed``: it will not; ``skipped``: it
    could not be looked at. ``detail``: What was found: a sentence, where it is not ``ok``.
    ``hint``: What to do about it. ``exit_code``: By the contract, where it failed; otherwise 0.
    """

    name: str
    title: str
    status: Status
    detail: str
    hint: str = ""
    exit_code: int = 0

    @classmethod
    def of(cls, name: str, title: str, error: MountkitError, *, hint: str = "") -> Finding:
        """A failure, from an error of ours."""
        return cls(name, title, "failed", error.message, hint or error.hint, error.exit_code)


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What became of one operation on the mount, by its name in ``capabilities``.

    ``problem`` names the call that failed and how, ``errno`` its number, 0 if it had none.
    ``tried`` is False where the mount hung before its turn.
    """

    operation: str
    works: bool
    problem: str = ""
    errno: int = 0
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found, and the verdict: one sentence, and what to change if it is bad.

    ``source`` is the URL it is about, None if only the machine was looked at. ``refused`` are the
    operations that the backend does not have by design.
    """

    source: str | None
    findings: tuple[Finding, ...]
    operations: tuple[OperationResult, ...]
    backend: str
    refused: frozenset[str]
    verdict: str
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """The object that ``--format json`` prints; see the command's help."""
        known = {operation.name: operation for operation in OPERATIONS}
        return {
            "source": self.source,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "backend": self.backend,
            "findings": [asdict(finding) for finding in self.findings],
            "operations": [
                {
                    **asdict(result),
                    "refused": result.operation in self.refused,
                    "essential": known[result.operation].essential,
                    "matters": known[result.operation].matters,
                }
                for result in self.operations
            ],
        }


def diagnose(
    findings: Iterable[Finding],
    operations: Sequence[OperationResult],
    backend: str,
    refused: frozenset[str],
    *,
    source: str | None,
) -> Diagnosis:
    """Put it all together; without a ``source`` the verdict is on the machine alone."""
    all_of_it = tuple(findings)
    first = next((finding for finding in all_of_it if finding.status == "failed"), None)
    return Diagnosis(
        source,
        all_of_it,
        tuple(operations),
        backend,
        refused,
        verdict(first, source),
        first.exit_code if first else 0,
    )


def verdict(first: Finding | None, source: str | None) -> str:
    """One sentence from the first failure, or that there is none."""
    if source is None:
        good, bad = "This machine can mount a bucket.", "This machine cannot mount a bucket"
    else:
        good, bad = "This run will save.", "This run will not save"
    if first is None:
        return good
    sentence = f"{bad}: {first.detail.rstrip('.')}."
    return f"{sentence} {first.hint.rstrip('.')}." if first.hint else sentence


def judge_operations(
    results: Sequence[OperationResult],
    backend: str,
    refused: frozenset[str],
    others: Mapping[str, frozenset[str]],
) -> tuple[Finding, ...]:
    """One finding for all that is well, and one for each operation that should work and does not.

    ``results``: What was tried. ``backend``, ``refused``: The backend, and the operations it is
    known to refuse: what a save needs of those, mountkit goes about in another way. ``others``:
    Each other backend, and what that refuses.
    """
    known = {operation.name: operation for operation in OPERATIONS}
    working = [result for result in results if result.works]
    expected = [result for result in results if not result.works and result.operation in refused]
    bad = [result for result in results if not result.works and result.operation not in refused]
    if not bad:
        detail = f"{len(working)} of {len(results)} work"
        if expected:
            names = ", ".join(result.operation for result in expected)
            detail += f"; not on {backend}, as expected: {names}"
        return (Finding("operations", "what a save does", "ok", detail),)
    return tuple(judge_operation(result, known[result.operation], others) for result in bad)


def judge_operation(
    result: OperationResult, operation: Operation, others: Mapping[str, frozenset[str]]
) -> Finding:
    """The finding on an operation that should work and does not."""
    title = operation.does
    if not result.tried:
        return Finding(operation.name, title, "skipped", "The mount hung before its turn.")
    detail = (
        f"To {operation.does} does not work on this mount ({result.problem}). It matters because: "
        f"{operation.matters}."
    )
    if result.errno in NO_ROOM:
        hint = "Give the cache a disk with room: --cache-dir DIR"
    else:
        better = [name for name, refuses in others.items() if operation.name not in refuses]
        hint = f"Try the other backend: --backend {better[0]}" if better else ""
    if operation.essential or result.errno == errno.ETIMEDOUT:
        return Finding(operation.name, title, "failed", detail, hint, UNAVAILABLE)
    return Finding(operation.name, title, "warning", detail, hint)


def describe(call: str, number: int, problem: str) -> str:
    """The call and its error: ``close: EIO, Input/output error``."""
    name = errno.errorcode.get(number, "")
    said = problem or (os.strerror(number) if number else "")
    return f"{call}: {name}, {said}" if name else f"{call}: {said}"
