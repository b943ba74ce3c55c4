"""``mountkit mount``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mountkit.cli.options import grace, mount_options, output_format, service_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from mountkit.config.settings import Settings
    from mountkit.events import Observer
    from mountkit.lifecycle.session import Session
    from mountkit.spec import MountSpec
    from mountkit.timing import Deadline


@click.command()
@click.argument("source")
@click.argument("target")
@mount_options
@grace
@service_options
@click.option("--foreground", is_flag=True, help="Stay; SIGTERM or Ctrl-C drains and unmounts.")
@output_format
def command(
    source: str, target: str, options: tuple[str, ...], foreground: bool, output: str, **flags: Any
) -> None:
    """Mount SOURCE (s3://bucket/prefix) at TARGET, an empty directory or a new one.

    Returns when the mount serves; a supervisor stays behind and mounts again if the daemon dies.
    With --format json the object has source, target and id; and waiting, as that of status, if
    other caches have files to upload to the same place.
    """
    import json
    from dataclasses import asdict

    from mountkit import backends
    from mountkit.cli import console
    from mountkit.cli.console import say
    from mountkit.config.directories import cache_root, state_root
    from mountkit.config.settings import load
    from mountkit.mounts import mounting, waiting_caches, working_directory
    from mountkit.mounts.resolve_spec import resolve_mount_spec
    from mountkit.runner.serve import leave_behind
    from mountkit.state.registry import State

    console.use_early(flags["log_format"])
    settings = load(**flags)
    console.use(settings.log_format)
    spec = resolve_mount_spec(source, target, settings, options)

    known = State(state_root(settings))
    waiting = waiting_caches.waiting(known, cache_root(settings), spec)
    for cache in waiting:
        say(str(cache), "warning")

    def ready() -> None:
        say(mounting.told(spec))
        # What a daemon mounts covers the directory that the shell stands on.
        covers = backends.load(spec.backend).mounts
        below = working_directory.warning(spec.target) if covers else ""
        if below:
            say(below, "warning")
        if output == "json":
            content: dict[str, Any] = {
                "source": spec.source.url,
                "target": spec.target,
                "id": spec.id,
            }
            if waiting:
                content["waiting"] = [asdict(cache) for cache in waiting]
            click.echo(json.dumps(content))

    if foreground:
        _supervise(spec, settings, ready)
        return
    directory = known.directory(spec.id)
    leave_behind(
        # Only a log hears it there: umount, or the next run, has to name it once more.
        lambda tell: _supervise(spec, settings, tell, heard=False),
        directory.supervisor_log,
        settings.mount_timeout,
        console.fail,
    )
    ready()


def _supervise(
    spec: MountSpec, settings: Settings, ready: Callable[[], None], *, heard: bool = True
) -> None:
    """Mount, and stay until a signal or ``mountkit umount`` ends it."""
    import signal
    import threading

    from mountkit.cli.console import Console
    from mountkit.lifecycle.session import Session
    from mountkit.runner.signals import UNMOUNT_SHARE
    from mountkit.timing import Deadline

    ended, deadline = threading.Event(), Deadline()

    def end(*_: object) -> None:
        if settings.grace is not None:
            deadline.set(settings.grace * (1 - UNMOUNT_SHARE))
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    console = Console()
    stay(Session.open(spec, settings, console), console, ready, ended, deadline, heard=heard)


def stay(
    session: Session,
    observer: Observer,
    ready: Callable[[], None],
    ended: Event,
    deadline: Deadline,
    *,
    heard: bool = True,
) -> None:
    """Look after a mount until the event, or its supervisor, says that it is over; then drain it.

    ``heard``: Whether somebody hears what is named then.

    Raises NotDurableError or MountUnavailableError if something is not proven then, or the mount
    had to be given up.
    """
    from mountkit.cli.console import say
    from mountkit.errors import MountUnavailableError, NotDurableError
    from mountkit.runner.run import Naming, where_left

    spec = session.mount.spec
    try:
        ready()
        while not ended.is_set() and not session.supervisor.finished.wait(0.2):
            pass
    except BaseException:
        session.close()
        raise
    if session.supervisor.stopped:
        # ``mountkit umount`` drained the mount, and had it taken away.
        session.close()
        return
    say("stopping; making sure that everything is in the store")
    naming = Naming(say)
    report = session.finish(
        observer, ended_well=False, deadline=deadline, drained=naming, heard=heard
    )
    naming(report)
    if not report.complete:
        left = where_left(spec)
        raise NotDurableError(
            f"{spec.target} is not proven to be in the store: {len(report.unproven)} in all, named "
            "above.",
            hint=f"{left[0].upper()}{left[1:]}.",
            unproven=report.unproven,
        )
    if session.supervisor.error is not None:
        raise MountUnavailableError(
            f"The mount at {spec.target} could not be repaired: {session.supervisor.error}",
            hint=f"All that was written is in {spec.source.url}. See the log: "
            f"less {session.mount.directory.log}",
        )
