"""``mountkit bench``."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mountkit.cli.console import at_once
from mountkit.cli.options import output_format, size_of, store_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from mountkit.bench import Report


@click.command(
    epilog="Exits with 0 if a backend could be measured; otherwise with 69 if there is no mount to "
    "be had, 75 if a save could not be proven, 77 if the store refuses, 78 if a setting is wrong."
)
@click.argument("source")
@store_options
@click.option("--cache-dir", metavar="DIR", help="Where files wait for their upload.")
@click.option("--size", metavar="SIZE", default="256MB", show_default=True, help="Of one save.")
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="How often each backend is measured.",
)
@output_format
def command(source: str, size: str, rounds: int, output: str, **flags: Any) -> None:
    """Measure every backend on your own bucket, and say which one to use.

    Mounts a throw-away directory below SOURCE with each, and saves a checkpoint of SIZE there, in
    turns: how long that blocks, when it is proven to be in the bucket, and how soon the mount is
    back after its daemon was killed. The same save to the local disk tells what a training is used
    to. Everything is removed again.

    With --format json the object has source, size (bytes), rounds, local (save_seconds,
    megabytes_per_second, problem), backends (a list of backend, version, save_seconds, save_ratio
    (to the local disk), megabytes_per_second, proven_seconds (from the start of the save),
    proven_ratio, recovery_seconds, refuses (operations), rounds (a list of the three times)),
    not_measured (a list of backend, problem, hint), recommendation (backend, flag, why) and left
    (what could not be removed, and why). All but rounds are medians.
    """
    import json

    from mountkit import bench
    from mountkit.config.settings import load

    settings = load(**flags)
    line = _Line()
    with _interrupts() as hold:
        report = bench.measure(
            settings,
            source,
            size=size_of("--size", size, "256MB", least=1),
            rounds=rounds,
            tell=line.tell,
            doing=line.doing,
            cleaning=hold,
        )
    if output == "json":
        click.echo(json.dumps(report.to_json()))
    else:
        _print(report)


class _Line:
    """What is told on stderr; on a terminal also what is under way, which the next line replaces.

    Nothing of it is told elsewhere: a log would only get longer.
    """

    def __init__(self) -> None:
        self._start = "\r\x1b[K" if sys.stderr.isatty() else ""

    def doing(self, text: str) -> None:
        if self._start:
            click.echo(f"{self._start}mountkit: {text} ...", err=True, nl=False)

    def tell(self, text: str) -> None:
        click.echo(f"{self._start}mountkit: {text}", err=True)


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """A signal ends the measurement, and what was mounted and written is taken away.

    What is done after a call of what this gives should come to its end: one more signal is only
    answered then. The next one ends that, too.
    """
    from mountkit.linux.signals import ENDING, handled, leave

    to_answer = 0

    def hold() -> None:
        nonlocal to_answer
        to_answer = 1

    def receive(number: int, frame: object) -> None:
        nonlocal to_answer
        if not to_answer:
            leave(number, frame)
        to_answer -= 1
        at_once("still removing what was written; once more to leave it")

    with handled(ENDING, receive):
        yield hold


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(_figures(report))
    console.print(Text(_caption(report), "dim"))
    for each in report.measured:
        console.print()
        if each.unsupported_operations:
            console.print(Text(f"{each.backend} cannot", "bold"))
            console.print(_refused(each.unsupported_operations))
            if "rename" in each.unsupported_operations:
                console.print("  Trainer's own saves work all the same: mountkit writes them.")
        else:
            console.print(Text.assemble((each.backend, "bold"), " can do all that a save does."))
    for missed in report.missed:
        console.print()
        console.print(
            Text.assemble((f"{missed.backend} was not measured: ", "bold"), missed.problem)
        )
        if missed.hint:
            console.print(Text(f"-> {missed.hint}"))
    console.print()
    chosen = report.recommendation
    console.print(Text(f"Use {chosen.flag}: {chosen.why}.", "bold green"))


def _figures(report: Report) -> Table:
    from statistics import median

    from rich.table import Table

    from mountkit.bench.report import seconds, times

    def cell(value: float, ratio: float | None) -> str:
        return seconds(value) if ratio is None else f"{seconds(value)} {times(ratio):>6}"

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("a save blocks", "MB/s", "proven after", "back after a kill"):
        table.add_column(heading, justify="right", no_wrap=True)
    if report.local:
        local = median(report.local)
        table.add_row("local disk", cell(local, 1.0), f"{report.speed(local):,.0f}", "-", "-")
    for each in report.measured:
        blocks = report.against_local([found.save for found in each.rounds])
        takes = report.against_local([found.proven for found in each.rounds])
        table.add_row(
            each.backend,
            cell(each.save, blocks),
            f"{report.speed(each.save):,.0f}",
            cell(each.proven, takes),
            seconds(each.recovery),
        )
    return table


def _caption(report: Report) -> str:
    from mountkit.formatting import megabytes

    rounds = len(report.measured[0].rounds)
    size = megabytes(report.size)
    what = f"One save of {size}." if rounds == 1 else f"Medians of {rounds} saves of {size}."
    if report.local:
        return f"{what} 2.0x: twice as long as to the local disk."
    return f"{what} None to the local disk to compare with: {report.local_problem}."


def _refused(names: frozenset[str]) -> Table:
    from rich.table import Table

    from mountkit.backends.file_operations import OPERATIONS

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
    table.add_column("does", no_wrap=True)
    table.add_column("matters", overflow="fold")
    for operation in OPERATIONS:
        if operation.name in names:
            table.add_row(f"  {operation.does}", operation.matters)
    return table
