"""``mountkit latest``."""

from __future__ import annotations

from typing import Any

import click

from mountkit.cli.options import output_format, store_options


@click.command(epilog="Exits with 1, and prints nothing, if there is none.")
@click.argument("path_or_url")
@store_options
@output_format
def command(path_or_url: str, output: str, **flags: Any) -> None:
    """Print the newest checkpoint that is proven and still intact, below PATH_OR_URL.

    A path must lie in a mount. With --format json the object has checkpoint (path or URL, or null),
    step (or null), and skipped: a list of name and reason.
    """
    import json

    from mountkit.checkpoints import catalog
    from mountkit.cli.console import say
    from mountkit.config import settings
    from mountkit.mounts.location import Place

    place = Place.find(path_or_url, settings.load(**flags))
    skipped: list[dict[str, str]] = []

    def skip(name: str, reason: str) -> None:
        skipped.append({"name": name, "reason": reason})
        say(f"{name} is passed over: {reason}")

    newest = catalog.latest(place.store(), on_skip=skip)
    found = place.child(newest.name) if newest else None
    if output == "json":
        step = newest.step if newest else None
        click.echo(json.dumps({"checkpoint": found, "step": step, "skipped": skipped}))
    elif found:
        click.echo(found)
    click.get_current_context().exit(0 if found else 1)
