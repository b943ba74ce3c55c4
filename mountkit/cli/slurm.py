"""``mountkit slurm``."""

from __future__ import annotations

from typing import Any

import click

from mountkit.cli.options import grace, mount_options, trainer_options
from mountkit.cli.run import WithCommand


@click.command(
    cls=WithCommand,
    options_metavar="[OPTIONS]",
    epilog="Exits with 2 if the job could not work, and with 78 if Slurm does not tell its limits.",
)
@click.argument("place", nargs=-1, metavar="SOURCE TARGET -- COMMAND...")
@click.option(
    "--nodes", type=click.IntRange(1), default=1, metavar="N", help="Machines, 1 or more."
)
@click.option("--time", "limit", default="", metavar="LIMIT", help="Time limit, such as 24:00:00.")
@click.option("--partition", default="", metavar="NAME", help="Where to run, such as gpu.")
@click.option(
    "--name", default="", metavar="NAME", help="Of the job; else the last part of SOURCE."
)
@click.option(
    "--sbatch",
    "more",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another option of sbatch, such as gpus-per-node=8.",
)
@click.option(
    "--setup",
    multiple=True,
    metavar="LINE",
    help="A line of shell to begin with, such as 'module load cuda'.",
)
@click.option("--epilog", is_flag=True, help="Print an Epilog for the administrator instead.")
@grace
@mount_options
@trainer_options
def command(
    place: tuple[str, ...],
    nodes: int,
    limit: str,
    partition: str,
    name: str,
    more: tuple[str, ...],
    setup: tuple[str, ...],
    epilog: bool,
    options: tuple[str, ...],
    **flags: Any,
) -> None:
    """Print a file for sbatch: a job that runs COMMAND as `mountkit run` does, and comes back.

    The job is submitted again after each preemption and each time limit, and goes on from the
    newest proven checkpoint, until COMMAND has come to its end. A wrong setting or a refusal of the
    store (2, 77, 78) ends it. --grace is asked of Slurm where it is not given.

    On many nodes COMMAND runs on each, with a mount of its own, and has to start the ranks itself:
    torchrun is told of the other nodes.

    Nothing is mounted, and nothing submitted. No secret gets into the file: the job has the
    environment of whoever submits it.
    """
    import os
    import shutil

    from mountkit import backends
    from mountkit.cli.console import say
    from mountkit.config.settings import load
    from mountkit.errors import UsageError
    from mountkit.mounts.resolve_spec import option_pairs
    from mountkit.slurm.epilog import EPILOG
    from mountkit.slurm.grace import Grace, of_cluster
    from mountkit.slurm.job import Job, check, parse_option, render
    from mountkit.store import parse

    if epilog:
        click.echo(EPILOG, nl=False)
        return
    if len(place) != 2:
        raise UsageError(
            "Give SOURCE and TARGET.",
            hint="Such as: mountkit slurm s3://bucket/run-1 /tmp/run-1 -- python train.py",
        )
    if flags.pop("node") is not None:
        raise UsageError(
            "--node is the job's own to set: on each machine it is SLURM_NODEID.",
            hint="Leave --node out; --nodes says how many there are.",
        )
    settings = load(**flags)
    source, target = place
    parse(source)
    pairs = option_pairs(options)
    # Which one `auto` takes is known on the node only.
    if settings.backend != "auto":
        backends.load(settings.backend).check_options(pairs)
    given = settings.grace
    found = (
        Grace(int(given), "--grace")
        if given is not None
        else of_cluster(shutil.which("scontrol"), partition or None)
    )
    flags.pop("grace")
    job = Job(
        source,
        target,
        tuple(click.get_current_context().meta.get("command") or ()),
        found.seconds,
        ("mountkit", "run", *_words(flags), *(f"--option={option}" for option in options)),
        nodes,
        name,
        limit,
        partition,
        tuple(parse_option(text) for text in more),
        setup,
    )
    check(job, os.environ)
    click.echo(os.fsencode(render(job)), nl=False)
    say(
        f"from SIGTERM to SIGKILL the job has {found.seconds} s ({found.why}), and the command "
        f"{found.seconds * 6 // 10} s of them to save"
    )
    say("submit it with: sbatch FILE")


def _words(flags: dict[str, Any]) -> list[str]:
    """The options that were given, as `mountkit run` takes them."""
    words = []
    for name, value in flags.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words.append(f"--{option}={value}")
    return words
