"""Mount, run a command, drain, unmount, and exit with the truth."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.config import timeouts
from mountkit.config.directories import cache_root, state_root
from mountkit.config.environment import command_environment
from mountkit.errors import MountkitError, Unproven
from mountkit.events import LeaseLost
from mountkit.lifecycle.session import Session
from mountkit.mounts import mounting, waiting_caches, working_directory
from mountkit.proof.drain import drain
from mountkit.runner import leftover_processes, trainer_environment
from mountkit.runner.signals import Signals, forget_interrupt
from mountkit.state import writer_epoch
from mountkit.state.record import FAILED
from mountkit.state.registry import State
from mountkit.timing import Deadline, wait_until
from mountkit.writers import startup_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mountkit.config.settings import Settings
    from mountkit.events import Event, Observer
    from mountkit.mounts.mount import Mount
    from mountkit.proof.report import DrainReport
    from mountkit.spec import MountSpec

NOT_DURABLE = 75
ENDED = "the command ended; making sure that everything is in the store"
# What a platform acts on, whether a signal came or not.
TOLD = frozenset({2, 69, 74, NOT_DURABLE, 77, 78})


def run(
    spec: MountSpec,
    settings: Settings,
    command: Sequence[str],
    observer: Observer,
    say: Callable[[str], None],
    at_once: Callable[[str], None],
    begin: Callable[..., Session] = Session.open,
) -> int:
    """Run ``command`` while ``spec`` is mounted; the exit code of the whole.

    Returns the command's own code, 128+N if signal N ended it, or 75 if not all of what it wrote is
    proven to be in the store, and the command ended well or because it was told to.

    Raises MountkitError if the mount cannot be had; the command has not run then.
    """
    known, root = State(state_root(settings)), cache_root(settings)
    with Signals(settings.grace, say, at_once) as signals:
        if not backends.load(spec.backend).mounts:
            # There is no daemon whose end would keep the command from writing there.
            observer = _ending(observer, signals)
        before = frozenset(map(str, waiting_caches.waiting(known, root, spec)))
        for text in sorted(before):
            say(text)
        place = working_directory.place_in(spec.target)
        opened: list[Session] = []
        try:
            session = begin(spec, settings, observer, opened.append)
            say(mounting.told(spec))
            env = leftover_processes.marked(command_environment(settings))
            env = _journaled(session.mount, env)
            env = trainer_environment.with_trainer(settings, session.mount.path, env)
            inside = working_directory.make_place(spec.target, place)
            started = time.time()
            code = signals.execute(command, env, inside)
        except BaseException:
            signals.only_answer()
            for each in opened:
                each.close()
            raise
        say(ENDED)
        naming = Naming(say)
        report = _finish(session, observer, say, signals, naming, ended_well=code == 0)
        left = leftover_processes.warning(leftover_processes.still_running(), spec.target)
        if left:
            # No reason for another code: it may have nothing to do with what is saved.
            say(left)
        if code and any(at >= started for at in session.supervisor.record.lost):
            say(
                f"the command ended with {code}, and the mount was lost while it ran; run it "
                f"again, from the newest proven checkpoint: mountkit latest {spec.source.url}"
            )
        asked = _asked(code, settings, signals)
        code = _told(report, spec, code, say, naming, asked=asked)
        if session.supervisor.record.state != FAILED:
            # Where the mount was given up, a platform that takes no count would begin for ever.
            code = _stopped(code, settings, signals, say)
        # Not this run's, and no reason for another code; but the last chance to tell.
        for text in sorted(
            before.intersection(map(str, waiting_caches.waiting(known, root, spec)))
        ):
            say(text)
        return code


def _ending(observer: Observer, signals: Signals) -> Observer:
    """Ends the command, too, once another writer has the run."""

    def tell(event: Event) -> None:
        observer(event)
        if isinstance(event, LeaseLost):
            signals.end()

    return tell


class Naming:
    """Says what is not proven, each once: after the drain, and what the unmount adds to it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._named: set[Unproven] = set()

    def __call__(self, report: DrainReport) -> None:
        """Name what a report has and none before it had."""
        for problem in report.unproven:
            if problem not in self._named:
                self._named.add(problem)
                self._say(f"not proven: {problem}")


def _told(
    report: DrainReport | None,
    spec: MountSpec,
    code: int,
    say: Callable[[str], None],
    naming: Naming,
    *,
    asked: bool,
) -> int:
    """Say what became of it; the exit code. None if nothing is known to be proven.

    ``asked``: The command ended by a signal that was passed on to it. That code would tell whoever
    sent the signal that all went as they had asked.
    """
    unfinished = NOT_DURABLE if asked else code or NOT_DURABLE
    if report is None:
        say(where_left(spec))
        return unfinished
    naming(report)
    if not report.complete:
        say(f"not all of it is proven to be in {spec.source.url}; {where_left(spec)}")
        return unfinished
    files = f"{report.files} file{'' if report.files == 1 else 's'}"
    say(f"all that was written is proven to be in {spec.source.url}: {files}")
    return code


def where_left(spec: MountSpec) -> str:
    """Where what did not get into the store is now."""
    backend = backends.load(spec.backend)
    if backend.write_back:
        again = "until the same mount is made again"
        return f"what waits for its upload stays in {spec.cache_dir} {again}"
    if not backend.mounts:
        return f"nothing of {spec.target} was moved, and what is there may not be whole"
    return f"{spec.backend} keeps no copy: what is not in the store has to be written again"


def _asked(code: int, settings: Settings, signals: Signals) -> bool:
    """Whether the command ended because it was told to; by its code, if no platform cares."""
    return signals.asked_for(code) or (settings.stopped_code is not None and signals.stopped)


def _stopped(
    code: int, settings: Settings | None, signals: Signals, say: Callable[[str], None]
) -> int:
    """The exit code, where a platform takes 0 for the end of the training, and 1 for a fault.

    A Trainer that saves on SIGTERM ends well, at whatever step it is, and torchrun then with 1.
    """
    other = None if settings is None else settings.stopped_code
    if other is None or not signals.stopped or code in TOLD:
        return code
    say(f"a signal stopped the command, which ended with {code}: exit code {other}, as asked for")
    return other


def run_beside(
    mount: Mount,
    settings: Settings,
    command: Sequence[str],
    observer: Observer,
    say: Callable[[str], None],
    at_once: Callable[[str], None],
) -> int:
    """Run ``command`` on a mount that somebody else keeps, and leave it mounted; the exit code.

    As ``run``: whoever keeps the mount may end with a code that nobody reads, as a sidecar's is.
    """
    with Signals(settings.grace, say, at_once) as signals:
        env = _journaled(mount, command_environment(settings))
        env = trainer_environment.with_trainer(settings, mount.path, env)
        code = signals.execute(command, env)
        say(ENDED)
        limits = timeouts.limits(settings).until(Deadline(within=signals.deadline))

        def drained() -> DrainReport:
            with signals.draining():
                # One that has died is started again, as a sidecar's container is; not where
                # another writer has the run.
                wait_until(
                    lambda: _fenced(mount) or not _unkept(mount),
                    signals.deadline.cut(limits.repair),
                )
                # Others may write there, too: what they have not finished is no checkpoint.
                report = drain(mount, limits, observer, ended_well=False)
            beside = _fenced(mount) or _unkept(mount)
            return replace(report, unproven=(*report.unproven, *beside))

        report = _unless_cut(drained, say)
        asked = _asked(code, settings, signals)
        code = _told(report, mount.spec, code, say, Naming(say), asked=asked)
        return _stopped(code, settings, signals, say)


def _unkept(mount: Mount) -> tuple[Unproven, ...]:
    """What says that not all that was written there went through the mount."""
    record = mount.record()
    backend = backends.load(mount.spec.backend)
    entry = backend.entry(mount.path)
    there = entry is not None and (backend.mounts or backend.matches(entry, mount.spec.id, None))
    if record is None or record.state == FAILED or not record.supervisor.alive() or not there:
        reason = "whoever kept the mount is gone: what was written since went to the local disk"
        return (Unproven(mount.path, 0, reason),)
    return ()


def _fenced(mount: Mount) -> tuple[Unproven, ...]:
    """What says that nothing that is written there counts any more."""
    writer = writer_epoch.read(mount.directory.path)
    if writer is None or not writer.lost:
        return ()
    return (Unproven(mount.path, 0, f"the lease of the run is lost: {writer.lost}"),)


def execute(
    command: Sequence[str],
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Run a command without a mount, with our signals forwarded to it; its exit code."""
    with Signals() as signals:
        env = command_environment(settings)
        if settings is not None:
            env = trainer_environment.with_trainer(settings, "", env)
        return _stopped(signals.execute(command, env), settings, signals, say)


def _journaled(mount: Mount, env: Mapping[str, str]) -> dict[str, str]:
    """``env`` with what a mount needs of which mountkit's own writers tell what they wrote."""
    if backends.load(mount.spec.backend).journaled:
        return startup_hook.environment(mount, env)
    return dict(env)


def _finish(
    session: Session,
    observer: Observer,
    say: Callable[[str], None],
    signals: Signals,
    naming: Naming,
    *,
    ended_well: bool,
) -> DrainReport | None:
    return _unless_cut(
        lambda: session.finish(
            observer,
            ended_well=ended_well,
            deadline=signals.deadline,
            draining=signals.draining,
            drained=naming,
        ),
        say,
    )


def _unless_cut(work: Callable[[], DrainReport], say: Callable[[str], None]) -> DrainReport | None:
    """The report, or None if it was cut short: then nothing is known to be proven."""
    try:
        return work()
    except KeyboardInterrupt:
        # That has been said at once.
        forget_interrupt()
        return None
    except MountkitError as error:
        say(str(error))
        return None
