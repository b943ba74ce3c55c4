"""A measurement under way: the backends in turns, and what it has to take away again."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.backends import selection
from mountkit.bench import cleanup, timed_save
from mountkit.bench.backend_run import BackendRun, Contender, longest
from mountkit.bench.report import Figures, Missed, Report, Round, seconds
from mountkit.config.directories import cache_root
from mountkit.config.environment import search_path
from mountkit.doctor import disk_space, machine
from mountkit.doctor.mount_check import forget
from mountkit.errors import MountkitError, MountUnavailableError
from mountkit.linux import mount_table
from mountkit.mounts.resolve_spec import resolve_mount_spec
from mountkit.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from mountkit.config.settings import Settings
    from mountkit.spec import Source

#: Begins the name of the directory that everything is written to.
PREFIX = ".mountkit-bench-"


class Bench:
    """A measurement of every backend there is.

    ``place``: What the user named. ``size``: Of the weight file of one save, in bytes. ``tell``:
    Told what comes of each round, for people. ``doing``: Told what is under way right now.
    """

    def __init__(
        self,
        place: Source,
        settings: Settings,
        size: int,
        tell: Callable[[str], None],
        doing: Callable[[str], None],
    ) -> None:
        self._place = place
        self._settings = settings
        self._size = size
        self._tell = tell
        self._doing = doing
        self._name = f"{PREFIX}{secrets.token_hex(4)}"
        # Resolved, because that is how the mount table shows it.
        self._scratch = Path(tempfile.mkdtemp(prefix="mountkit-bench-")).resolve()
        # Where rclone's cache is, so that both write to the same disk.
        self._disk = cache_root(settings) / self._name
        scheme = place.scheme
        self._names = [name for name in backends.NAMES if selection.mounts(name, scheme)]
        self._candidates: list[Contender] = []
        self._trials: list[BackendRun] = []
        self._local: list[float] = []
        self._local_problem = ""
        self._rounds: dict[str, list[Round]] = {}
        self._errors: dict[str, MountkitError] = {}

    def mount(self) -> None:
        """Mount with every backend that is there, and save once for nothing.

        Raises MountkitError if none of them can be used.
        """
        disk = machine.look_at_disk(cache_root(self._settings))
        if disk.free < self._size + disk_space.GIB:
            # Nor is anybody's disk filled to the last byte for a figure to compare with.
            self._local_problem = (
                disk.problem or f"only {disk_space.size(disk.free)} are free there"
            )
        for name in self._names:
            self._choose(name, disk)
        self._refuse_none()
        there = " and ".join(f"{each.backend} {each.version}" for each in self._candidates)
        self._tell(f"measuring {there}")
        below = self._place.child(self._name)
        self._tell(f"writing below {below.url}; it is all removed again")
        # A directory is only made within one that is there.
        open_store(below, self._settings.store(below)).check()
        for candidate in self._candidates:
            self._doing(f"mounting with {candidate.backend}")
            self._mount(candidate)
        self._refuse_none()

    def run(self, number: int, of: int) -> None:
        """One round: the local disk, then each backend.

        ``number``: Of the round, from 1. ``of``: How many there will be.

        Raises MountkitError if no backend came through.
        """
        self._doing(f"round {number}/{of}, local disk: saving")
        self._save_locally()
        trials = [each for each in self._trials if each.candidate.backend not in self._errors]
        # The other way round every second time: what follows on what is no advantage then.
        for trial in trials if number % 2 else reversed(trials):
            self._measure(trial, number, of)
        self._refuse_none()

    def clean_up(self) -> tuple[str, ...]:
        """Unmount, and remove what was written; what stays, and why."""
        try:
            left = self._clean_up()
        except BaseException:
            there = f"{self._place.child(self._name).url}, {self._scratch} and {self._disk.parent}"
            self._tell(f"interrupted; something may stay in {there}; see also: mountkit status")
            raise
        for problem in left:
            self._tell(f"not taken away: {problem}")
        return left

    def report(self, left: tuple[str, ...]) -> Report:
        """What was found, once at least one backend came through."""
        measured = []
        for candidate in self._candidates:
            name = candidate.backend
            if name not in self._errors:
                refuses = backends.load(name).unsupported_operations
                rounds = tuple(self._rounds[name])
                measured.append(Figures(name, candidate.version, refuses, rounds))
        missed = [Missed(name, error.message, error.hint) for name, error in self._errors.items()]
        return Report(
            source=self._place.url,
            size=self._size,
            local=tuple(self._local),
            local_problem=self._local_problem,
            measured=tuple(measured),
            missed=tuple(missed),
            left=left,
        )

    def _choose(self, name: str, disk: disk_space.Disk) -> None:
        """Measure that backend, if it is there and has the room it needs."""
        try:
            binary = backends.load(name).binary(search_path())
        except MountUnavailableError as error:
            self._errors[name] = error
            return
        judged = disk_space.judge(disk, name, self._size)
        if judged.status == "failed":
            hint = "Give a smaller --size, or a --cache-dir with more room."
            self._errors[name] = MountUnavailableError(judged.detail, hint=hint)
            return
        largest = max(self._size, self._settings.largest_file)
        settings = replace(self._settings, backend=name, largest_file=largest)
        url = self._place.child(f"{self._name}/{name}").url
        spec = resolve_mount_spec(url, self._scratch / name, settings)
        self._candidates.append(
            Contender(binary.version_text, self._place, spec, settings, self._size)
        )

    def _mount(self, candidate: Contender) -> None:
        try:
            trial = BackendRun(candidate, self._trials.append)
            trial.warm_up()
        except (MountkitError, OSError) as error:
            self._give_up(candidate, error)

    def _measure(self, trial: BackendRun, number: int, of: int) -> None:
        backend = trial.candidate.backend
        turn = f"round {number}/{of}, {backend}"
        try:
            found = trial.measure(number, lambda what: self._doing(f"{turn}: {what}"))
        except (MountkitError, OSError) as error:
            self._give_up(trial.candidate, error)
            return
        self._rounds.setdefault(backend, []).append(found)
        self._tell(
            f"{turn}: {seconds(found.save)}, proven after {seconds(found.proven)}, "
            f"back after {seconds(found.recovery)}"
        )

    def _save_locally(self) -> None:
        """The same save to the local disk; where there is no room for it, there is no ratio."""
        if self._local_problem:
            return
        directory = self._disk / "checkpoint"
        limit = longest(self._settings, self._size)
        try:
            self._disk.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Not synced: no training waits for that.
            saved = timed_save.save(str(directory), self._size, fsync=False, limit=limit)
            self._local.append(saved.seconds)
        except OSError as error:
            self._local.clear()
            self._local_problem = error.strerror or str(error)
        finally:
            shutil.rmtree(self._disk, ignore_errors=True)

    def _give_up(self, candidate: Contender, error: MountkitError | OSError) -> None:
        """Measure this backend no further; the others go on."""
        backend = candidate.backend
        if isinstance(error, OSError):
            where = error.filename or candidate.spec.cache_dir
            error = MountUnavailableError(
                f"{backend} cannot be measured: {where}: {error.strerror or error}.",
                hint=f"See whether there is room, and who may write there: df -h {where}",
            )
        self._errors[backend] = error
        self._tell(f"{backend}: {error.message}")
        if candidate.log.exists():
            self._tell(f"the log of {backend} stays: {candidate.log}")
        for trial in self._trials:
            if trial.candidate is candidate:
                # Tried once more in the end, and named if it stays mounted.
                with suppress(MountkitError, OSError):
                    trial.end()

    def _refuse_none(self) -> None:
        if len(self._errors) == len(self._names):
            first, *_ = self._errors.values()
            raise first

    def _clean_up(self) -> tuple[str, ...]:
        self._tell("unmounting, and removing what was written")
        for trial in self._trials:
            # What stays mounted is named below.
            with suppress(MountkitError, OSError):
                trial.end()
        targets = [each.spec.target for each in self._candidates]
        left = [
            f"{target} is still mounted; try: mountkit umount --discard {target}"
            for target in targets
            if mount_table.at(target) is not None
        ]
        if self._trials:
            below = self._place.child(self._name)
            store = open_store(below, self._settings.store(below))
            broken_off = any(trial.broken_off for trial in self._trials)
            left.extend(cleanup.sweep(store, broken_off=broken_off))
        for candidate in self._candidates:
            failed = candidate.backend in self._errors
            forget(candidate.spec, candidate.settings, failed=failed)
        # Only empty directories go: never through a mount that is still there.
        for target in (*targets, str(self._scratch)):
            with suppress(OSError):
                Path(target).rmdir()
        return tuple(left)
