"""Have the operations of a save tried on a directory, by a helper process that can be killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.doctor.findings import OperationResult, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCRIPT = Path(__file__).with_name("file_operations_child.py")
REAP_SECONDS = 1.0
SAID_BYTES = 300


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of each operation, and the paths that could not be removed afterwards."""

    results: tuple[OperationResult, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Helper:
    """How the helper ended: what it printed, its last words, and its status; None if it hung."""

    out: str
    err: str
    status: int | None


def attempt(directory: str, names: Sequence[str], seconds: float) -> Trial:
    """Try the operations in ``directory``, which is made, and removed again.

    Parameters
    ----------
    directory:
        A path on the mount where nothing is yet.
    names:
        Operations by their names in :mod:`mountkit.backends.file_operations`.
    seconds:
        How long all of them together may take. The one that hangs then is the one that failed.
    """
    return read(_run([directory, *names], seconds), names, seconds)


def leave(directory: str, seconds: float) -> str:
    """Make ``directory`` on the mount, with a file in it; returns "" or what went wrong."""
    return _problem(_run(["--leave", directory], seconds), seconds)


def remove(directory: str, seconds: float) -> str:
    """Remove it again, through the mount; returns "" or what went wrong."""
    helper = _run(["--remove", directory], seconds)
    left = [str(path) for found in _objects(helper.out) for path in found.get("left", ())]
    return f"{left[0]} cannot be removed" if left else _problem(helper, seconds)


def read(helper: Helper, names: Sequence[str], seconds: float) -> Trial:
    """Understand what the helper printed, however far it came."""
    told: dict[str, OperationResult] = {}
    left: tuple[str, ...] = ()
    for found in _objects(helper.out):
        if "operation" in found:
            name = str(found["operation"])
            told[name] = _result(name, found)
        else:
            left = tuple(map(str, found.get("left", ())))
    results = []
    ended = ""
    for name in names:
        if name in told:
            results.append(told[name])
        elif not ended:
            # Operations are tried in order: the first one without an answer is at fault.
            ended = _problem(helper, seconds) or "the trial ended early"
            number = errno.ETIMEDOUT if helper.status is None else 0
            results.append(OperationResult(name, works=False, problem=ended, errno=number))
        else:
            results.append(OperationResult(name, works=False, problem=ended, tried=False))
    return Trial(tuple(results), left)


def _result(name: str, found: dict[str, Any]) -> OperationResult:
    if found["works"]:
        return OperationResult(name, works=True)
    problem = describe(found["call"], found["errno"], found["problem"])
    return OperationResult(name, works=False, problem=problem, errno=found["errno"])


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        # A helper that was killed may have left half a line.
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _problem(helper: Helper, seconds: float) -> str:
    if helper.status is None:
        return f"no answer within {seconds:g} s"
    return (helper.err or f"exit status {helper.status}") if helper.status else ""


def _run(words: Sequence[str], seconds: float) -> Helper:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # Files and not pipes: they can be read even if the helper cannot be killed.
        helper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SCRIPT), *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd="/",
            start_new_session=True,
        )
        status = None
        try:
            status = helper.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if status is None:
                _kill(helper)
        out.seek(0)
        err.seek(0)
        lines = err.read().decode(errors="replace").strip().splitlines()
        last = lines[-1][:SAID_BYTES] if lines else ""
        return Helper(out.read().decode(errors="replace"), last, status)


def _kill(helper: subprocess.Popen[bytes]) -> None:
    """End it and the process it may have forked."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(helper.pid, signal.SIGKILL)
    # In an uninterruptible wait it ends only when the mount does; Popen reaps it then.
    with contextlib.suppress(subprocess.TimeoutExpired):
        helper.wait(REAP_SECONDS)
