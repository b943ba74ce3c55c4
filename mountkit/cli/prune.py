"""``mountkit prune``."""

from __future__ import annotations

from typing import Any

import click

from mountkit.cli.options import output_format, store_options


@click.command(
    epilog="Exits with 1 if there is no proven checkpoint, with 74, and removes nothing, if none "
    "is intact, with 69 while a run writes there."
)
@click.argument("url")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=1),
    required=True,
    help="How many proven checkpoints stay, at least 1.",
)
@click.option(
    "--torn", is_flag=True, help="Also those never proven, older than the newest that is intact."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@store_options
@output_format
def command(url: str, keep: int, torn: bool, dry_run: bool, output: str, **flags: Any) -> None:
    """Remove the proven checkpoints below URL, but for the newest N; print those that are removed.

    Those of a training that was left go first, then the oldest, as save_total_limit does it. In any
    case there stay the newest one that is intact, and the one that Trainer calls the best. While a
    run writes there nothing is removed: it would miss what it wrote. It has save_total_limit.

    The manifest goes first, then the files. A directory that has no manifest, or one that cannot be
    trusted, is named and not touched; with --torn, one that has none and is older than the newest
    intact checkpoint goes, too: a save that was killed has left it, or a tool that proves nothing.
    With --format json the object has removed (a list of URLs),
    kept and untouched (lists of name and reason), and dry_run.
    """
    import json

    from mountkit.checkpoints import lease_object, pruning
    from mountkit.cli.console import say
    from mountkit.config import settings
    from mountkit.errors import UsageError
    from mountkit.formatting import printable
    from mountkit.mounts.location import Place

    if "://" not in url:
        raise UsageError(
            f"{url} is no URL.",
            hint="Give the URL of the bucket, as `mountkit status` shows it: s3://bucket/prefix",
        )
    place = Place.find(url, settings.load(**flags))
    store = place.store()
    if not dry_run:
        lease_object.refuse_live(store)
    plan = pruning.plan(store, keep, torn=torn)
    untouched = dict(plan.unproven)
    for name, reason in plan.keep.items():
        say(f"{name} stays: {reason}")
    for name, reason in plan.unproven.items():
        say(f"{printable(name)} is not touched: {reason}", "warning")
    removed = []
    for name in plan.remove:
        reason = "" if dry_run else pruning.remove(store, name, plan.manifests[name])
        if reason:
            untouched[name] = reason
            say(f"{name} is not touched: {reason}", "warning")
            continue
        removed.append(place.child(name))
        say(f"{name} {'would be removed' if dry_run else 'is removed'}")
        if output == "human":
            click.echo(removed[-1])
    if output == "json":
        content = {
            "removed": removed,
            "kept": [{"name": name, "reason": why} for name, why in plan.keep.items()],
            "untouched": [{"name": name, "reason": why} for name, why in untouched.items()],
            "dry_run": dry_run,
        }
        click.echo(json.dumps(content))
    if not plan.keep:
        say(f"there is no proven checkpoint below {place.prefix}")
    click.get_current_context().exit(0 if plan.keep else 1)
