"""``mountkit doctor``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mountkit.cli.options import mount_options, output_format, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mountkit.doctor import Diagnosis, Finding

WORDS = {"ok": "ok", "warning": "warn", "failed": "FAILED", "skipped": "-"}
STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


@click.command(
    epilog="Exits with 0 if the run will save; with 69 if the mount cannot be had, 77 if a "
    "permission is missing, 78 if a setting is wrong."
)
@click.argument("source", required=False)
@click.argument("target", required=False)
@mount_options
@click.option("--model-size", metavar="SIZE", help="The largest checkpoint, such as 13GB.")
@output_format
def command(
    source: str | None,
    target: str | None,
    options: tuple[str, ...],
    model_size: str | None,
    output: str,
    **flags: Any,
) -> None:
    """Try all that a run needs, in seconds, and say whether it will save.

    Looks at this machine; with SOURCE, tries each permission in the bucket, mounts it (at TARGET,
    if it is given) and tries what a save does. Everything is done below a throw-away prefix and
    taken away again. Without SOURCE that of MOUNTKIT_SOURCE is used.

    With --format json the object has source, verdict, exit_code, backend, findings (a list of name,
    title, status: ok, warning, failed or skipped, detail, hint, exit_code) and operations (a list
    of operation, works, problem, errno, tried, refused: by design of the backend, essential,
    matters).
    """
    import json

    from mountkit import doctor
    from mountkit.cli.console import say
    from mountkit.config.settings import load
    from mountkit.runner.signals import Signals

    settings = load(**flags)
    size = None if model_size is None else size_of("--model-size", model_size, "13GB")
    # A signal ends it in good order: what was mounted is unmounted.
    with Signals():
        diagnosis = doctor.examine(
            settings,
            source or settings.source,
            target or (settings.target if source is None else None),
            options=options,
            checkpoint=size,
            tell=say,
        )
    if output == "json":
        click.echo(json.dumps(diagnosis.to_json()))
    else:
        _print(diagnosis)
        if not (source or settings.source):
            say("to try a bucket as well: mountkit doctor s3://bucket/prefix")
    click.get_current_context().exit(diagnosis.exit_code)


def _print(diagnosis: Diagnosis) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("status", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in _together(diagnosis.findings):
        style = STYLES[finding.status]
        table.add_row(Text(WORDS[finding.status], style), Text(finding.title), Text(finding.detail))
        if finding.hint:
            table.add_row("", "", Text(f"-> {finding.hint}", "bold"))
    console.print(table)
    if diagnosis.operations:
        console.print()
        console.print(_operations(diagnosis))
    console.print()
    # Not broken into lines: it is what gets copied.
    style = "bold red" if diagnosis.exit_code else "bold green"
    console.print(Text(diagnosis.verdict, style), soft_wrap=True)


def _together(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What was not tried for the same reason, in one line."""
    from itertools import groupby

    def reason(finding: Finding) -> tuple[str, str]:
        return finding.status, finding.detail if finding.status == "skipped" else finding.name

    for (status, detail), group in groupby(findings, reason):
        same = list(group)
        if len(same) == 1 or status != "skipped":
            yield from same
        else:
            titles = ", ".join(finding.title for finding in same)
            why = detail.removeprefix("Not tried: ").rstrip(".")
            yield replace(same[0], title="not tried", detail=f"{titles} ({why})")


def _operations(diagnosis: Diagnosis) -> Any:
    from rich.table import Table
    from rich.text import Text

    from mountkit.backends.file_operations import OPERATIONS

    known = {operation.name: operation for operation in OPERATIONS}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("operation", no_wrap=True)
    table.add_column("works", overflow="fold", max_width=24)
    table.add_column("matters because", overflow="fold")
    for result in diagnosis.operations:
        name = result.operation
        if result.works:
            word = Text("yes", "green")
        elif name in diagnosis.refused:
            word = Text(f"not on {diagnosis.backend}", "yellow")
        else:
            word = Text(result.problem if not result.tried else f"NO: {result.problem}", "bold red")
        table.add_row(name, word, known[name].matters)
    return table
