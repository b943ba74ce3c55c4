"""``mountkit status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mountkit.cli.options import output_format

if TYPE_CHECKING:
    from mountkit.state import MountRecord, State


@click.command(
    epilog="Exits with 1 if nothing is mounted (at TARGET), with 69 if a mount is broken."
)
@click.argument("target", required=False)
@output_format
def command(target: str | None, output: str, **flags: Any) -> None:
    """Show what is mounted: everything, or only what is at TARGET.

    With --format json the object has mounts, a list of source, target, backend, state, since,
    supervisor_pid and daemon_pid (or null), remounts, reason (of the last trouble), pending_files,
    pending_bytes, and last_proven (checkpoint, step and at, or null).
    """
    import json

    from mountkit import config
    from mountkit import target as targets
    from mountkit.state import State

    known = State(config.state_root(config.load(**flags)))
    records = known.records()
    if target is not None:
        path = targets.resolve(target)
        records = tuple(record for record in records if record.spec.target == path)
    mounts = [_look(record, known) for record in records]
    if output == "json":
        click.echo(json.dumps({"mounts": mounts}))
    elif mounts:
        _print(mounts)
    else:
        click.echo(f"nothing is mounted{f' at {target}' if target else ''}", err=True)
    broken = any(mount["state"] == "broken" for mount in mounts)
    click.get_current_context().exit(69 if broken else 0 if mounts else 1)


def _look(record: MountRecord, known: State) -> dict[str, Any]:
    from dataclasses import asdict

    from mountkit import mountinfo
    from mountkit.errors import MountkitError
    from mountkit.handle import Mount

    mount = Mount.of(record, known)
    try:
        pending = [file for file in mount.control().files() if file.dirty]
    except MountkitError as error:
        # Only the store could tell, and it cannot be asked; the rest is known all the same.
        click.echo(f"mountkit: {error}", err=True)
        pending = []
    proven = mount.directory.proven()
    supervised = record.supervisor.alive()
    daemon = record.daemon if record.daemon and record.daemon.alive() else None
    entry = mountinfo.at(record.spec.target)
    state = record.state
    if state == "serving" and (daemon is None or entry is None):
        state = "repairing" if supervised else "broken"
    elif not supervised and daemon is None:
        state = "broken"
    return {
        "source": record.spec.source.url,
        "target": record.spec.target,
        "backend": record.spec.backend,
        "state": state,
        "since": record.since,
        "supervisor_pid": record.supervisor.pid if supervised else None,
        "daemon_pid": daemon.pid if daemon else None,
        "remounts": record.remounts,
        "reason": record.reason,
        "pending_files": len(pending),
        "pending_bytes": sum(file.size for file in pending),
        "last_proven": asdict(proven) if proven else None,
    }


def _print(mounts: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mountkit.cli.console import megabytes

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("target", "source", "state", "remounts", "to upload", "last proven"):
        table.add_column(heading, overflow="fold")
    for mount in mounts:
        waiting = f"{mount['pending_files']} files, {megabytes(mount['pending_bytes'])}"
        last = mount["last_proven"]
        table.add_row(
            mount["target"],
            mount["source"],
            mount["state"],
            str(mount["remounts"]),
            waiting if mount["pending_files"] else "nothing",
            f"{last['checkpoint']} at {last['at'][:19]}" if last else "nothing yet",
        )
    console = Console()
    console.print(table)
    for mount in mounts:
        if mount["reason"]:
            console.print(f"{mount['target']}: last trouble: {mount['reason']}", soft_wrap=True)
