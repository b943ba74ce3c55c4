"""``mountkit status``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from mountkit.cli.options import output_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from mountkit.monitoring.snapshot import Overview
    from mountkit.state.registry import State

REFRESH_SECONDS = 1.0


@click.command(
    epilog="Exits with 1 if nothing is mounted (at TARGET), with 69 if a mount is broken or given "
    "up; with 0 when --watch is ended by Ctrl-C."
)
@click.argument("target", required=False)
@click.option("--watch", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@output_format
def command(target: str | None, watch: bool, output: str, **flags: Any) -> None:
    """Show what is mounted: everything, or only what is at TARGET.

    With --format json the object has mounts, a list of

    \b
    source, target, backend
    state           mounting, serving, repairing, failed (given up), or
                    broken (nobody is left to repair it)
    since           when that state began; age_seconds, for how long
    supervisor_pid  or null; daemon_pid, or null
    remounts        how many; reason, of the last one
    pending_files   to upload; pending_bytes; null if nobody can tell
    unproven_files  covered by no proof yet; unproven_bytes; or null
    verifications   of checkpoints: proven, failed, how many each
    last_proven     checkpoint, step, at, age_seconds; or null
    last_error      of the store, or of a proof: message, at, age_seconds,
                    settled (something was proven after it); or null

    and, if there are any, waiting, a list of other caches with files to upload

    \b
    source, target  of their mount; target is "" if nobody knows it
    cache_dir, files, bytes, since
    held            a process has the cache
    command         brings them to the bucket
    """  # noqa: D301 - it is click that reads the backspace
    import json
    from dataclasses import asdict

    from mountkit.cli.console import say
    from mountkit.config.directories import cache_root, state_root
    from mountkit.config.settings import load
    from mountkit.linux import paths
    from mountkit.mounts import waiting_caches
    from mountkit.state.record import FAILED
    from mountkit.state.registry import State

    settings = load(**flags)
    known = State(state_root(settings))
    path = None if target is None else paths.resolve(target)
    if watch:
        _watch(known, path, output)
        return
    mounts = _look(known, path)
    now = time.time()
    there = {mount.record.spec.cache_dir for mount in mounts}
    waiting = [
        cache
        for cache in waiting_caches.waiting(known, cache_root(settings), without=there)
        if path in {None, cache.target}
    ]
    for cache in waiting:
        say(str(cache), "warning")
    if output == "json":
        content = {"mounts": [to_json(mount, now) for mount in mounts]}
        if waiting:
            content["waiting"] = [asdict(cache) for cache in waiting]
        click.echo(json.dumps(content))
    elif mounts:
        from rich.console import Console

        console = Console()
        # What is read by a program is not wrapped.
        width = console.width if console.is_terminal else None
        console.print(_cards(mounts, now, width), soft_wrap=True)
    else:
        click.echo(_nothing(path), err=True)
    broken = any(mount.state in {"broken", FAILED} for mount in mounts)
    click.get_current_context().exit(69 if broken else 0 if mounts else 1)


def _look(known: State, path: str | None) -> list[Overview]:
    from mountkit.monitoring import snapshot
    from mountkit.mounts.mount import Mount

    return [
        snapshot.look(Mount.of(record, known), record)
        for record in known.records()
        if path is None or record.spec.target == path
    ]


def _nothing(path: str | None) -> str:
    return f"nothing is mounted{f' at {path}' if path else ''}"


def _cards(mounts: Sequence[Overview], now: float, width: int | None) -> Text:
    from rich.text import Text

    from mountkit.cli.status_view import card

    return Text("\n\n").join(card(mount, now, width) for mount in mounts)


def to_json(mount: Overview, now: float) -> dict[str, Any]:
    """What ``--format json`` prints of one mount. ``now`` in seconds since the epoch."""
    from dataclasses import asdict

    from mountkit.formatting import moment

    def aged(at: str) -> float:
        return round(now - moment(at), 3)

    record, proof_stats = mount.record, mount.proof_stats
    proven, error = proof_stats.proven, mount.last_error
    return {
        "source": record.spec.source.url,
        "target": record.spec.target,
        "backend": record.spec.backend,
        "state": mount.state,
        "since": record.since,
        "age_seconds": aged(record.since),
        "supervisor_pid": mount.supervisor_pid,
        "daemon_pid": mount.daemon_pid,
        "remounts": record.remounts,
        "reason": record.reason,
        "pending_files": mount.pending.files if mount.pending else None,
        "pending_bytes": mount.pending.size if mount.pending else None,
        "unproven_files": mount.unproven.files if mount.unproven else None,
        "unproven_bytes": mount.unproven.size if mount.unproven else None,
        "verifications": {"proven": proof_stats.proofs, "failed": proof_stats.failures},
        "last_proven": {**asdict(proven), "age_seconds": aged(proven.at)} if proven else None,
        "last_error": {**asdict(error), "age_seconds": aged(error.at), "settled": mount.settled}
        if error
        else None,
    }


def _watch(known: State, path: str | None, output: str) -> None:
    """Show it anew every second. Ctrl-C, or SIGTERM as of ``timeout``, leaves the last picture."""
    import signal

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from mountkit.errors import UsageError
    from mountkit.linux.signals import handled, leave

    console = Console()
    if output == "json" or not console.is_terminal or console.is_dumb_terminal:
        raise UsageError(
            "--watch draws on a terminal, for people.",
            hint="For a program, ask again and again: mountkit status --format json",
        )

    live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis")
    # The cursor, which is hidden, comes back.
    with handled((signal.SIGTERM, signal.SIGHUP), leave), live:
        try:
            while True:
                now = time.time()
                mounts = _look(known, path)
                shown = _cards(mounts, now, console.width) if mounts else Text(_nothing(path))
                ending = Text(f"\n{time.strftime('%H:%M:%S')}, every second; Ctrl-C ends it", "dim")
                live.update(Text("\n").join((shown, ending)), refresh=True)
                time.sleep(REFRESH_SECONDS)
        except KeyboardInterrupt:
            pass
