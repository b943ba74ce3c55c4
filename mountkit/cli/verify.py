"""``mountkit verify``."""

from __future__ import annotations

from typing import Any

import click

from mountkit.cli.options import output_format, store_options


@click.command(epilog="Exits with 74 if a file is missing or altered, or there is no manifest.")
@click.argument("path_or_url")
@click.option(
    "--level",
    type=click.Choice(["attest", "readback"]),
    default="attest",
    help="attest asks for the store's own checksums; readback reads every byte.",
)
@store_options
@output_format
def command(path_or_url: str, level: str, output: str, **flags: Any) -> None:
    """Compare the checkpoint at PATH_OR_URL, file by file, with what the store holds now.

    A path must lie in a mount. With --format json the object has ok, step, url, created, files (a
    list of path, problem, expected, found, attested_by, etag) and extra.
    """
    import json

    from mountkit.checkpoints.verification import verify
    from mountkit.cli.console import say
    from mountkit.config import settings
    from mountkit.formatting import printable
    from mountkit.mounts.location import Place

    place = Place.find(path_or_url, settings.load(**flags))
    verdict = verify(place.store(), "", level=level)
    if output == "json":
        click.echo(json.dumps(verdict.to_json()))
    else:
        for file in verdict.files:
            fault = f"{file.problem}: the store holds {file.found}, expected {file.expected}"
            said = file.attested_by if file.ok else fault
            click.echo(f"{'ok ' if file.ok else 'BAD'}  {printable(file.path)}  {said}")
    for path in verdict.extra:
        say(f"{printable(path)} is not in the manifest")
    if not verdict.ok:
        names = ", ".join(printable(fault.path) for fault in verdict.faults)
        say(f"{place.prefix} is not what was proven: {names}")
        say("resume from an older one instead: mountkit latest " + place.prefix.rpartition("/")[0])
    click.get_current_context().exit(0 if verdict.ok else 74)
