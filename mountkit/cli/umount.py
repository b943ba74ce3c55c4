"""``mountkit umount``."""

from __future__ import annotations

from typing import Any

import click

from mountkit.cli.options import output_format


@click.command(
    epilog="Exits with 75 if something is not proven to be in the bucket; TARGET stays mounted "
    "then, unless that was written at the very end."
)
@click.argument("target")
@click.option(
    "--discard",
    is_flag=True,
    help="Unmount without the drain. What waits for its upload stays in the cache.",
)
@output_format
def command(target: str, discard: bool, output: str, **flags: Any) -> None:
    """Wait until all that was written to TARGET is proven to be in its bucket, then unmount it.

    With --format json the object has target, files (how many were proven) and checkpoints (those
    that got their manifest now).
    """
    import json

    from mountkit.cli.console import Console, say
    from mountkit.config.settings import load
    from mountkit.formatting import count
    from mountkit.lifecycle.unmount import unmount

    settings = load(**flags)
    console = Console()
    report = unmount(target, settings, console, discard=discard)
    console.clear()
    if report is None:
        say(f"{target} is unmounted")
    else:
        say(f"all that was written is proven ({count(report.files)}); {target} is unmounted")
    if output == "json":
        files = report.files if report else 0
        names = list(report.checkpoints) if report else []
        click.echo(json.dumps({"target": target, "files": files, "checkpoints": names}))
