"""``mountkit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mountkit.cli.options import store_options


@click.command(epilog="Exits with 0 only if every claim held.")
@click.option(
    "--store",
    type=click.Choice(["s3", "sftp", "gs", "az", "hdfs"]),
    help="The store to start on this machine. s3 (default) and sftp are rclone's own; "
    "gs starts fake-gcs-server, az azurite-blob and hdfs hdfs-server, if on PATH.",
)
@click.option(
    "--source",
    metavar="URL",
    help="Instead, a place in a store of yours, such as gs://bucket/demo. Your credentials are "
    "used. The demo saves 300 MB below a run-... of its own there, and removes it.",
)
@store_options
@click.option("--keep", is_flag=True, help="Leave what was saved there to look at.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where --store s3 or sftp keeps the bucket meanwhile.",
)
def command(**asked: Any) -> None:
    """Train into a bucket, kill the mount, resume, and check every byte.

    Starts a store on loopback, or takes yours, mounts a bucket of it, trains a small GPT-2 with
    Trainer, kills the mount's daemon between two saves, stops, and resumes from the newest proven
    checkpoint. Then it flips one byte in the bucket, to see it caught.
    """
    from mountkit.demo.choice import Wish
    from mountkit.demo.scenario import run_demo

    click.get_current_context().exit(run_demo(Wish(**asked)))
