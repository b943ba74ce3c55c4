"""One look at a mount from outside, without touching it: what ``status`` and the metrics tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.errors import MountkitError
from mountkit.formatting import moment, timestamp
from mountkit.names import is_proof
from mountkit.state.proof_stats import Complaint
from mountkit.state.record import REPAIRING, SERVING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mountkit.backends.base import WrittenFile
    from mountkit.mounts.mount import Mount
    from mountkit.state.proof_stats import ProofStats
    from mountkit.state.record import MountRecord

BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Amount:
    """So many files with so many bytes."""

    files: int = 0
    size: int = 0

    @classmethod
    def of(cls, files: Iterable[WrittenFile]) -> Amount:
        """Count files."""
        sizes = [file.size for file in files]
        return cls(len(sizes), sum(sizes))


@dataclass(frozen=True, slots=True)
class Overview:
    """A mount as it is now.

    ``state`` is that of the record, but ``repairing`` or ``broken`` where the mount or its
    processes are gone. ``pending`` waits for its upload; ``unproven`` is not covered by a proof,
    uploaded or not. Both are None where nobody can tell, and ``unknown`` says why. ``last_error``
    is of the daemon's uploads, of the store, or of a proof.
    """

    record: MountRecord
    state: str
    supervisor_pid: int | None
    daemon_pid: int | None
    pending: Amount | None
    unproven: Amount | None
    unknown: str
    last_error: Complaint | None
    proof_stats: ProofStats

    @property
    def settled(self) -> bool:
        """Whether a checkpoint was proven after the last error."""
        proven, error = self.proof_stats.proven, self.last_error
        if proven is None or error is None:
            return error is None
        return moment(proven.at) > moment(error.at)


def look(mount: Mount, record: MountRecord) -> Overview:
    """Look at a mount. Never waits for it."""
    supervised = record.supervisor.alive()
    daemon = record.daemon if record.daemon and record.daemon.alive() else None
    proof_stats = mount.directory.proof_stats.read()
    control = mount.control()
    pending, unproven, unknown, error = None, None, "", proof_stats.complaint
    try:
        files = control.files()
        error = _later(error, control.last_error())
    except (MountkitError, OSError) as problem:
        # The rest is known all the same.
        unknown = problem.message if isinstance(problem, MountkitError) else str(problem)
    else:
        pending = Amount.of(file for file in files if file.dirty)
        unproven = Amount.of(file for file in files if not_covered(file, record, proof_stats))
    return Overview(
        record=record,
        state=_state(record, supervised=supervised, served=daemon is not None),
        supervisor_pid=record.supervisor.pid if supervised else None,
        daemon_pid=daemon.pid if daemon else None,
        pending=pending,
        unproven=unproven,
        unknown=unknown,
        last_error=error,
        proof_stats=proof_stats,
    )


def not_covered(file: WrittenFile, record: MountRecord, proof_stats: ProofStats) -> bool:
    """Whether a file is this run's concern, and no proof of a checkpoint covers it as it is."""
    if file.dirty:
        return True
    if file.modified < record.began and file.path not in record.adopted:
        return False
    directory, _, name = file.path.rpartition("/")
    if is_proof(name):
        return False
    while directory:
        if file.modified <= proof_stats.proven_at.get(directory, -1.0):
            return False
        directory = directory.rpartition("/")[0]
    return True


def _later(noted: Complaint | None, logged: tuple[float, str] | None) -> Complaint | None:
    if logged is None or (noted is not None and moment(noted.at) >= logged[0]):
        return noted
    return Complaint(logged[1], timestamp(logged[0]))


def _state(record: MountRecord, *, supervised: bool, served: bool) -> str:
    backend = backends.load(record.spec.backend)
    mounted = backend.entry(record.spec.target) is not None
    # Without a daemon it is the disk that serves, for as long as somebody keeps the record.
    served = served or (supervised and not backend.mounts)
    if record.state == SERVING and not (served and mounted):
        return REPAIRING if supervised else BROKEN
    return record.state if supervised or served else BROKEN
