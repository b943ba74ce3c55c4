"""Have the operations of a save tried on a directory, by a helper process that can be killed."""

from __future__ import annotations

import contextlib
import errno
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.doctor.findings import OperationResult, describe
from mountkit.linux import helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mountkit.linux.helper import Ended

SCRIPT = Path(__file__).with_name("file_operations_child.py")


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of each operation, and the paths that could not be removed afterwards."""

    results: tuple[OperationResult, ...]
    left: tuple[str, ...]


def attempt(directory: str, names: Sequence[str], seconds: float) -> Trial:
    """Try the operations in ``directory``, which is made, and removed again.

    ``directory``: A path on the mount where nothing is yet. ``names``: Operations by their names in
    :mod:`mountkit.backends.file_operations`. ``seconds``: How long all of them together may take.
    The one that hangs then is the one that failed.
    """
    return read(_run([directory, *names], seconds), names, seconds)


def leave(directory: str, seconds: float) -> str:
    """Make ``directory`` on the mount, with a file in it; returns "" or what went wrong."""
    return _problem(_run(["--leave", directory], seconds), seconds)


def remove(directory: str, seconds: float) -> str:
    """Remove it again, through the mount; returns "" or what went wrong."""
    ended = _run(["--remove", directory], seconds)
    left = [str(path) for found in _objects(ended.out) for path in found.get("left", ())]
    return f"{left[0]} cannot be removed" if left else _problem(ended, seconds)


def read(ended: Ended, names: Sequence[str], seconds: float) -> Trial:
    """Understand what the helper printed, however far it came."""
    told: dict[str, OperationResult] = {}
    left: tuple[str, ...] = ()
    for found in _objects(ended.out):
        if "operation" in found:
            name = str(found["operation"])
            told[name] = _result(name, found)
        else:
            left = tuple(map(str, found.get("left", ())))
    results = []
    problem = ""
    for name in names:
        if name in told:
            results.append(told[name])
        elif not problem:
            # Operations are tried in order: the first one without an answer is at fault.
            problem = _problem(ended, seconds) or "the trial ended early"
            number = errno.ETIMEDOUT if ended.status is None else 0
            results.append(OperationResult(name, works=False, problem=problem, errno=number))
        else:
            results.append(OperationResult(name, works=False, problem=problem, tried=False))
    return Trial(tuple(results), left)


def _result(name: str, found: dict[str, Any]) -> OperationResult:
    if found["works"]:
        return OperationResult(name, works=True)
    problem = describe(found["call"], found["errno"], found["problem"])
    return OperationResult(name, works=False, problem=problem, errno=found["errno"])


def _objects(out: bytes) -> Iterator[dict[str, Any]]:
    for line in out.decode(errors="replace").splitlines():
        # A helper that was killed may have left half a line.
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _problem(ended: Ended, seconds: float) -> str:
    if ended.status is None:
        return f"no answer within {seconds:g} s"
    return (ended.err or f"exit status {ended.status}") if ended.status else ""


def _run(words: Sequence[str], seconds: float) -> Ended:
    return helper.run([str(SCRIPT), *words], seconds)
