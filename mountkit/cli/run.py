"""``mountkit run``."""

from __future__ import annotations

from typing import Any

import click

from mountkit.cli.options import grace, mount_options, service_options, trainer_options


class WithCommand(click.Command):
    """Splits at the first ``--``, which click itself would swallow."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows as ``ctx.meta["command"]``."""
        if "--" in args:
            index = args.index("--")
            ctx.meta["command"] = args[index + 1 :]
            args = args[:index]
        return super().parse_args(ctx, args)


@click.command(
    cls=WithCommand,
    options_metavar="[OPTIONS]",
    epilog="Exits with the command's own code, 128+N if signal N ended it, and with 75 if it ended "
    "well, or by a signal that was passed on to it, but something it wrote is not proven to be in "
    "the bucket.",
)
@click.argument("place", nargs=-1, metavar="[SOURCE TARGET] -- COMMAND...")
@mount_options
@trainer_options
@grace
@service_options
def command(place: tuple[str, ...], options: tuple[str, ...], **flags: Any) -> None:
    """Mount SOURCE at TARGET, run COMMAND, and make sure that all it wrote is in the bucket.

    Without SOURCE and TARGET those of MOUNTKIT_SOURCE and MOUNTKIT_TARGET are used; if these are
    not set either, COMMAND simply runs, and saves to the local disk. With MOUNTKIT_TARGET alone it
    runs on the mount that is there already, as one of a sidecar, proves the same, and leaves it.

    Each transformers.Trainer in a Python below COMMAND whose output_dir lies in TARGET has its
    checkpoints proven while it trains, with no line of code. --resume has trainer.train() go on
    from the newest proven one, unless the script says itself what from.
    """
    import shutil

    from mountkit.cli import console
    from mountkit.cli.console import Console, at_once, say
    from mountkit.config.environment import search_path
    from mountkit.config.settings import load
    from mountkit.errors import UsageError
    from mountkit.mounts.mount import Mount
    from mountkit.mounts.resolve_spec import resolve_mount_spec
    from mountkit.runner import trainer_environment
    from mountkit.runner.run import execute, run, run_beside

    console.use_early(flags["log_format"])
    words = click.get_current_context().meta.get("command") or []
    if not words:
        raise UsageError(
            "There is no command to run.",
            hint="Such as: mountkit run s3://bucket/run-1 /mnt/run-1 -- python train.py",
        )
    if shutil.which(words[0], path=search_path()) is None:
        raise UsageError(
            f"There is no program {words[0]!r} to run.",
            hint="Check the command after the two dashes.",
        )
    if len(place) not in {0, 2}:
        raise UsageError(
            "Give SOURCE and TARGET, both or neither.",
            hint="Such as: mountkit run s3://bucket/run-1 /mnt/run-1 -- python train.py",
        )
    settings = load(**flags)
    console.use(settings.log_format)
    trainer_environment.check(settings)
    source, target = place or (settings.source, settings.target)
    if source is None:
        beside = None if target is None else Mount.kept_at(target)
        if beside is None:
            say("no bucket is configured; the command runs without a mount")
        else:
            say(f"{beside.source} is mounted at {beside.path} already, and stays mounted")
        if settings.listen is not None:
            # Not refused: MOUNTKIT_LISTEN may be set for every job of a cluster.
            say(f"nothing listens on {settings.listen}: there is no mount to tell of", "warning")
        if beside is None:
            code = execute(words, settings, say)
        else:
            _keep_the_code()
            code = run_beside(beside, settings, words, Console(), say, at_once)
        click.get_current_context().exit(code)
    if target is None:
        raise UsageError(
            "MOUNTKIT_SOURCE is set, and MOUNTKIT_TARGET is not.",
            hint="Set MOUNTKIT_TARGET to the directory to mount at, the output_dir.",
        )
    spec = resolve_mount_spec(source, target, settings, options)
    _keep_the_code()
    click.get_current_context().exit(run(spec, settings, words, Console(), say, at_once))


def _keep_the_code() -> None:
    """What a run sets back at its end: all is told by then, and nothing changes its exit code."""
    import signal

    from mountkit.runner.signals import HANDLED

    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
