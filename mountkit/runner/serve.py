"""Leave a supervisor behind: a child in a session of its own that outlives the command."""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from typing import TYPE_CHECKING

from mountkit import errors
from mountkit.config import environment
from mountkit.errors import MountkitError, MountUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# One that ends is seen at once, and every step of it is bounded: the first look at what an earlier
# run has left may read all of that.
SLACK_SECONDS = 600.0


def _print(error: MountkitError) -> None:
    print(error, file=sys.stderr, flush=True)


def leave_behind(
    work: Callable[[Callable[[], None]], None],
    log: Path,
    timeout: float,
    report: Callable[[MountkitError], None] = _print,
) -> None:
    """Run ``work`` in the background; return once it says that it is ready.

    Parameters
    ----------
    work:
        Called in the child with a function to call when it is ready; the child ends when it
        returns. Must not rely on threads of this process: the child has none of them.
    log:
        The child's stdout and stderr.
    timeout:
        Seconds until it must be ready, beyond ten minutes of slack.
    report:
        Writes the error that ended the child to its stderr.

    Raises the MountkitError that ``work`` raised before it was ready.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    first = os.fork()
    if first == 0:
        os.close(reader)
        code = 1
        try:
            _become_daemon(log)
            code = _child(work, writer, report)
        finally:
            # Not sys.exit: the parent's own clean-up must not run here a second time.
            os._exit(code)
    os.close(writer)
    os.waitpid(first, 0)
    try:
        _wait_for(reader, timeout + SLACK_SECONDS, log)
    finally:
        os.close(reader)


def _become_daemon(log: Path) -> None:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    environment.leave_directory()


def _child(
    work: Callable[[Callable[[], None]], None],
    writer: int,
    report: Callable[[MountkitError], None],
) -> int:
    told = False

    def tell(content: dict[str, str]) -> None:
        nonlocal told
        if not told:
            told = True
            os.write(writer, json.dumps(content).encode())
            os.close(writer)

    try:
        work(lambda: tell({}))
    except MountkitError as error:
        report(error)
        tell({"kind": errors.public_name(error), "message": error.message, "hint": error.hint})
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        raise
    return 0


def _wait_for(reader: int, timeout: float, log: Path) -> None:
    ready, _, _ = select.select([reader], [], [], timeout)
    answer = os.read(reader, 65536) if ready else b""
    if not answer:
        raise MountUnavailableError(
            "The supervisor ended before the mount was ready."
            if ready
            else f"The supervisor did not get ready within {timeout:.0f} s.",
            hint=f"Read its log: less {log}",
        )
    content = json.loads(answer)
    if content:
        kind: type[MountkitError] = getattr(errors, content["kind"])
        raise kind(content["message"], hint=content["hint"])
