"""``mountkit demo``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="Exits with 0 only if every claim held.")
@click.option("--keep", is_flag=True, help="Leave the bucket there to look at.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the bucket is kept meanwhile."
)
def command(keep: bool, data_dir: Path | None) -> None:
    """Train into a bucket on this machine, kill the mount, resume, and check every byte.

    Starts an S3 server on loopback, mounts a bucket of it, trains a small GPT-2 with Trainer, kills
    the mount's daemon between two saves, stops, and resumes from the newest proven checkpoint.
    """
    from mountkit.demo.scenario import run_demo

    click.get_current_context().exit(run_demo(keep=keep, data_dir=data_dir))
