"""Start the daemon and wait until it serves; take the mount away again. It acts, others decide."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from typing import TYPE_CHECKING

from mountkit import timing
from mountkit.errors import MountUnavailableError
from mountkit.formatting import moment
from mountkit.linux import fuse_connection, mount_io, mount_privilege
from mountkit.linux.daemon import Daemon, InheritedDaemon
from mountkit.linux.fusermount import unmount
from mountkit.linux.mount_table import mount_around
from mountkit.linux.signals import held_back
from mountkit.mounts import mount_point
from mountkit.mounts.bare_directory import BareDirectory
from mountkit.mounts.start_gate import StartGate
from mountkit.names import is_own
from mountkit.state.bypassed_files import BypassedFile
from mountkit.state.record import SERVING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mountkit.backends.base import Backend, Binary, Control
    from mountkit.linux.mount_table import MountEntry
    from mountkit.linux.process import ProcessIdentity
    from mountkit.mounts.inventory import Inventory
    from mountkit.spec import MountSpec
    from mountkit.state.mount_directory import StateDirectory
    from mountkit.state.record import MountRecord

logger = logging.getLogger("mountkit")

POLL_SECONDS = 0.01
BUSY_SECONDS = 5.0
PROBE_SECONDS = 5.0
LONGEST_WORDS = 600


class Mounter:
    """One mount: its backend, its directories, and the daemon once it runs."""

    def __init__(
        self,
        spec: MountSpec,
        backend: Backend,
        binary: Binary | None,
        directory: StateDirectory,
        fusermount: str,
        environment: Mapping[str, str],
    ) -> None:
        self.spec = spec
        self.backend = backend
        self.directory = directory
        self.daemon: Daemon | InheritedDaemon | None = None
        self.device: int | None = None
        self.starts = StartGate(spec)
        #: Files that a daemon which died had not written to their end, and that were set aside.
        self.torn: tuple[BypassedFile, ...] = ()
        self._binary = binary
        self._fusermount = fusermount
        self._environment = environment
        self._bare_directory = BareDirectory(spec.target, spec.cache_dir, directory.bypassed)
        self._taken_over = False

    @property
    def adopted(self) -> bool:
        """Whether the daemon is one that another process started and left."""
        return isinstance(self.daemon, InheritedDaemon)

    @property
    def control(self) -> Control:
        """Talk to the daemon."""
        return self.backend.control(self.spec, self.directory.path)

    def entry(self) -> MountEntry | None:
        """What is mounted at the target, whoever's it is."""
        return self.backend.entry(self.spec.target)

    def waiting(self) -> int | None:
        """How many requests our daemon has not answered; None if the kernel does not say."""
        return None if self.device is None else fuse_connection.waiting(self.device)

    def ended(self) -> str:
        """How the daemon ended, in words; "" while it runs."""
        ended = "no daemon" if self.daemon is None else self.daemon.ended()
        return f"{self.backend.name} ended: {ended}" if ended else ""

    def mounted(self) -> bool:
        """Whether the mount table shows our mount at the target."""
        entry = self.entry()
        if entry is None:
            return False
        if self.device is None and self.daemon is not None:
            # Nothing was mounted there when our daemon started.
            self.device = entry.minor
        return self.backend.matches(entry, self.spec.id, self.device)

    def clear_target(self, leftover: ProcessIdentity | None) -> None:
        """Make the target ready for a mount: repair what is ours, refuse what is not (F9).

        ``leftover`` is the daemon that a record of ours names, if there is one. What it had not
        uploaded waits in the cache.

        Raises MountUnavailableError if the target holds files, is a file, or somebody else mounted
        something there; if an earlier daemon does not end; or if it lies in another mount that does
        not answer.
        """
        earlier = [daemon for daemon in (leftover, self._unmounted_daemon()) if daemon is not None]
        for daemon in earlier:
            if daemon.alive():
                entry = self.entry()
                if entry is not None and not self.backend.matches(entry, self.spec.id, self.device):
                    # Its end would unmount by path, and take away what lies above.
                    raise mount_point.refuse_foreign(self.spec.target, entry)
                daemon.stop()
        was_ours = self._taken_over
        # Stacked mounts are possible; each turn takes one away, and the table is short.
        for _ in range(8):
            entry = self.entry()
            if entry is None:
                break
            if not self.backend.matches(entry, self.spec.id, self.device):
                raise mount_point.refuse_foreign(self.spec.target, entry)
            self.detach()
            was_ours = True
        for daemon in earlier:
            if daemon.alive():
                raise MountUnavailableError(
                    f"An earlier {self.backend.name} for {self.spec.target}, process {daemon.pid}, "
                    "does not end, and a second one may not use the same cache.",
                    hint="It waits for a disk or a network: see 'ps -o stat,wchan:32 "
                    f"{daemon.pid}', or restart the machine.",
                )
        if was_ours:
            # The bare directory was covered until now; what is in it was written meanwhile.
            self._bare_directory.hold()
            self._bare_directory.keep()
        around = mount_around(self.spec.target)
        if around is not None and not mount_io.ask(around, PROBE_SECONDS).alive:
            # Whoever touched the target would wait for that mount, and for ever.
            raise MountUnavailableError(
                f"{self.spec.target} lies in the mount at {around}, which does not answer.",
                hint=f"Give a directory elsewhere, or see what it is: mountkit status {around}",
            )
        mount_point.make_ready(self.spec.target)
        self._bare_directory.hold()

    def _unmounted_daemon(self) -> ProcessIdentity | None:
        """The daemon of an earlier mount whose unmount was cut short: it may still use the cache.

        Not once this process has one of its own: the record tells of that one then.
        """
        left = self.directory.unfinished() if self.daemon is None else None
        return None if left is None else left.daemon

    def take_over(self, record: MountRecord | None) -> bool:
        """Take over a mount that serves, and whose supervisor is gone. Whether there is one.

        Not one that was still being made: nobody has seen that its files can be accounted for.
        """
        if record is None or record.daemon is None or not record.daemon.alive():
            return False
        if record.state != SERVING:
            return False
        self.device = record.device
        if not self.mounted() or not mount_io.ask(self.spec.target, PROBE_SECONDS).alive:
            return False
        self.daemon = InheritedDaemon(record.daemon, self.directory.log)
        self._taken_over = True
        # It has covered the bare directory since it was seen to serve last, if not for longer.
        self._bare_directory.covered = (moment(record.since), None)
        return True

    def quarantine_bypassed(self) -> bool:
        """Move away what was written while no mount covered the target; whether there was any."""
        self._hold_uncovered()
        return self._bare_directory.keep()

    def record_bypassed(self) -> None:
        """Record the files that bypassed the mount; move none."""
        self._hold_uncovered()
        self._bare_directory.name()

    def _hold_uncovered(self) -> None:
        """An adopted mount covered the bare directory until now."""
        if self._taken_over and not self._bare_directory.held and not self.entry():
            self._bare_directory.hold()

    def reconcile_leftovers(self, found: Inventory) -> Path:
        """Hold what an earlier run left against the store; where that is which was moved away."""
        quarantine = self._bare_directory.quarantine()
        self.control.reconcile_leftovers(quarantine, found.outdated, found.missing)
        return quarantine

    def release(self) -> None:
        """Let go of the bare directory, once nothing is mounted there any more."""
        self._bare_directory.release()

    def start(self, timeout: float, seen: Callable[[], None]) -> None:
        """Start the daemon and wait until the mount serves, at most ``timeout`` seconds.

        ``seen`` is called as soon as ``daemon`` is known, and again with ``device``: whoever writes
        them down then can tell the mount for ours, if this process is killed before it serves.

        Raises MountUnavailableError with the end of the daemon's log, if it does not come up; or
        once ``starts`` is shut.
        """
        self.starts.check()
        binary = self._binary or self.backend.binary(self._environment.get("PATH", ""))
        command = self.backend.command(self.spec, binary, self.directory.path, self._environment)
        self.directory.remove_socket()
        self.device = None
        partially_deleted = self.control.partially_deleted()
        if partially_deleted:
            self.directory.bypassed.note_partially_deleted(partially_deleted)
        quarantine = self._bare_directory.quarantine()
        torn = tuple(_torn(quarantine, path) for path in self.control.repair_cache(quarantine))
        if torn:
            self.torn += torn
            self.directory.bypassed.add(torn)
        deadline = time.monotonic() + timeout
        daemon = None
        try:
            with self.starts.making():
                log = self.directory.log
                daemon = Daemon.start(command.argv, command.env, log, command.stdin)
                self.daemon = daemon
            seen()
            self._wait_until_mounted(daemon, deadline)
            self._bare_directory.covered = (time.time(), None)
            seen()
            self._wait_until_serving(daemon, deadline)
        except BaseException:
            # The reason why it did not come up is worth more than why it cannot be taken away.
            with held_back(), contextlib.suppress(MountUnavailableError):
                if daemon is not None:
                    self.kill()
            raise

    def _wait_until_mounted(self, daemon: Daemon, deadline: float) -> None:
        began = time.monotonic()
        while not self.mounted():
            self.starts.check()
            ended = daemon.ended()
            if ended:
                raise self._failed(f"ended: {ended}", daemon)
            if time.monotonic() > deadline:
                limit = max(0.0, deadline - began)
                raise self._failed(f"did not mount within {limit:.0f} s", daemon)
            time.sleep(POLL_SECONDS)

    def _wait_until_serving(self, daemon: Daemon, deadline: float) -> None:
        answer = mount_io.ask(self.spec.target, max(1.0, deadline - time.monotonic()))
        if not answer.alive:
            raise self._failed(f"mounted, but the mount answers: {answer}", daemon)
        self.starts.check()
        self.control.self_check()

    def _failed(self, what: str, daemon: Daemon) -> MountUnavailableError:
        said = _last_words(daemon.tail())
        said = f" It said: {said}" if said else ""
        hint = f"Read its whole log: less {self.directory.log}"
        why = mount_privilege.obstacle()
        if why is not None:
            said = f"{said}. {why.what}" if said else f" {why.what}"
            hint = f"{why.hint}. {hint}"
        return MountUnavailableError(
            f"{self.backend.name} for {self.spec.target} {what}.{said}", hint=hint
        )

    def _uncover(self) -> None:
        """From now on the bare directory lies open, if it did not before."""
        since, until = self._bare_directory.covered
        self._bare_directory.covered = (since, time.time() if until is None else until)

    def detach(self) -> None:
        """Take a mount of ours off the path at once, dead or alive."""
        self._uncover()
        problem = unmount(self._fusermount, self.spec.target, lazy=True)
        if problem and self.mounted():
            raise MountUnavailableError(
                f"{self.spec.target} cannot be unmounted: {problem}.",
                hint=f"Try: fusermount3 -u -z {self.spec.target}",
            )

    def leaves(self, record: MountRecord) -> bool:
        """Whether anything that was written waits, or went astray, once nobody serves any more.

        What is known of it must then outlast the mount, or the next one takes it for whole.
        """
        if self.directory.bypassed.unnamed(record.strays_before):
            return True
        try:
            files = self.control.files()
            gaps = self.control.log_gaps()
        except (MountUnavailableError, OSError):
            # What cannot be seen may wait.
            return True
        if any(gap.until > record.told_until for gap in gaps):
            return True
        return any(file.dirty and not is_own(file.path) for file in files)

    def kill(self, *, hung: bool = False) -> None:
        """End the daemon and take its mount away, whatever state it is in.

        One that hangs is not asked first; whoever waits for its mount gets an error at once.
        """
        if hung and self.device is not None:
            fuse_connection.abort(self.device)
        if self.daemon is not None:
            if hung or self._covered():
                self.daemon.kill()
            else:
                self.daemon.stop()
        if self.mounted():
            self.detach()

    def _covered(self) -> bool:
        """Whether somebody else's mount is at the target.

        A daemon that is asked to end unmounts by the path, and would take that one away (F9).
        """
        return self.entry() is not None and not self.mounted()

    def unmount(self, daemon: ProcessIdentity | None = None) -> None:
        """Unmount after the drain, and see the daemon end.

        A file that somebody keeps open delays this by at most 5 s (F40); it has been drained, so
        nothing is lost when the mount is taken from under it. ``daemon`` is the one to wait for
        when another process started it.

        Raises MountUnavailableError if the mount is still in the table afterwards.
        """
        problem = ""

        def gone() -> bool:
            nonlocal problem
            if not self.mounted():
                return True
            self._uncover()
            problem = unmount(self._fusermount, self.spec.target)
            return not self.mounted()

        if not timing.wait_until(gone, BUSY_SECONDS):
            self.detach()
        if self._covered():
            self._end_covered(daemon)
        elif self.daemon is not None:
            if self.daemon.wait(BUSY_SECONDS) is None:
                self.daemon.stop()
        elif daemon is not None and not daemon.wait(BUSY_SECONDS):
            daemon.stop()
        if self.mounted():
            raise MountUnavailableError(
                f"{self.spec.target} is still mounted: {problem}.",
                hint=f"See who uses it: fuser -vm {self.spec.target}",
            )

    def _end_covered(self, daemon: ProcessIdentity | None) -> None:
        """Our mount lies below somebody else's, and cannot be taken away from there."""
        logger.warning(
            "mountkit: something else is mounted over %s, and stays. When it is gone, take away "
            "what lies below: fusermount3 -u -z %s",
            self.spec.target,
            self.spec.target,
        )
        if self.daemon is not None:
            self.daemon.kill()
        elif daemon is not None and daemon.send(signal.SIGKILL):
            daemon.wait(BUSY_SECONDS)


def _torn(quarantine: Path, path: str) -> BypassedFile:
    """A file that was set aside, or of which only rclone's record was left."""
    try:
        return BypassedFile.of(path, (quarantine / path).lstat(), torn=True)
    except FileNotFoundError:
        return BypassedFile(path, mark=f"{time.time_ns():x}", torn=True)


def _last_words(log: str) -> str:
    """What a daemon said at its end: from the last line that begins an error, or three lines."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [index for index, line in enumerate(lines) if line.lower().startswith("error")]
    return " / ".join(lines[errors[-1] :] if errors else lines[-3:])[:LONGEST_WORDS]
