"""The command line: one file a command, loaded when it is called.

This is the one place where an error becomes a sentence on stderr and an exit code.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from itertools import pairwise
from typing import Any

import click

from mountkit._version import __version__
from mountkit.cli import console
from mountkit.errors import MountkitError

# name -> the line that --help shows; kept here so that --help loads no command.
COMMANDS = {
    "bench": "Measure every backend on your bucket, and say which one to use.",
    "demo": "Watch the whole story, on this machine or your store, in a minute.",
    "doctor": "Try all that a run needs, and say whether it will save.",
    "latest": "Print the newest proven checkpoint.",
    "mount": "Mount a bucket at a directory.",
    "prune": "Remove old proven checkpoints from a bucket.",
    "run": "Mount, run a command, drain, unmount, exit with the truth.",
    "slurm": "Print a job for Slurm that comes back until the run is done.",
    "status": "Show what is mounted.",
    "umount": "Drain, then unmount.",
    "verify": "Compare a checkpoint with what the store holds.",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"mountkit.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.command(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 nothing found, 2 usage, 69 no mount, 74 verification failed, "
    "75 not durable yet, 77 no permission, 78 configuration. "
    "MOUNTKIT_TRACEBACK=1 shows where an error came from.",
)
@click.version_option(__version__, prog_name="mountkit")
def cli() -> None:
    """Mount a bucket at the Trainer's output_dir, and prove that every checkpoint is in it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code: Any = _invoke(words)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        console.say("interrupted", "error")
        code = 130
    except BrokenPipeError:
        # Whoever read our output has had enough. As for any program: the code of SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except MountkitError as error:
        code = show(error, as_json=wants_json(words))
    except Exception as error:  # noqa: BLE001 - Python's own exit code, 1, means "nothing found" here
        if isinstance(error.__cause__, KeyboardInterrupt):
            # In the making of a class, until Python 3.12.
            console.say("interrupted", "error")
            sys.exit(130)
        bug = MountkitError(
            f"This should not happen: {type(error).__name__}: {error}.",
            hint="Please report it, with what MOUNTKIT_TRACEBACK=1 shows before the same command.",
        )
        bug.__cause__ = error
        code = show(bug, as_json=wants_json(words))
    except SystemExit as stop:
        if not isinstance(stop.code, int):
            raise
        code = stop.code
    code = code if isinstance(code, int) else 0
    console.flush()
    if arguments is None and _awaits_threads():
        # All is closed. Python would wait for a store that does not answer, for up to a minute.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _awaits_threads() -> bool:
    """Whether something is asked that a signal has broken off."""
    import threading

    others = (one for one in threading.enumerate() if one is not threading.main_thread())
    return any(not one.daemon for one in others)


def _invoke(words: list[str]) -> object:
    if "_MOUNTKIT_COMPLETE" in os.environ:
        return cli.main(words, prog_name="mountkit", standalone_mode=False)
    # Not cli.main, which turns a broken pipe into exit code 1.
    with cli.make_context("mountkit", list(words)) as context:
        return cli.invoke(context)


def wants_json(words: list[str]) -> bool:
    """Whether ``--format json`` was asked for, before any ``--``."""
    own = words[: words.index("--")] if "--" in words else words
    return "--format=json" in own or ("--format", "json") in pairwise(own)


def show(error: MountkitError, *, as_json: bool) -> int:
    """Say what happened and what to do next; returns the exit code."""
    if os.environ.get("MOUNTKIT_TRACEBACK"):
        traceback.print_exception(error)
    console.fail(error)
    if as_json:
        content = {"code": error.exit_code, "message": error.message, "hint": error.hint}
        click.echo(json.dumps({"error": content}))
    return error.exit_code
