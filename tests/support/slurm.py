"""A Slurm of a test's own: its daemons are children, its ports and directories its own.

``slurmctld`` and a ``slurmd`` for each node run as they do on a cluster, but as whoever runs the
tests, with a ``munged`` and a key of their own. Nothing of an installed Slurm is read or written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from support.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "munged")
#: Daemons of a distribution are not on everybody's PATH.
PLACES = ("/usr/sbin", "/usr/local/sbin", "/sbin")
UP_SECONDS = 40.0
END_SECONDS = 10.0
CALL_SECONDS = 30.0
#: How long a job may wait in the queue, and run: a requeued one waits for its credential to expire.
JOB_SECONDS = 200.0
CREDENTIAL_SECONDS = 5
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL"})

CONFIGURATION = """\
ClusterName=mountkit
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket,cred_expire={credential}
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=200000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait={kill_wait}
SlurmdTimeout=6
ReturnToService=2
MinJobAge=300
SlurmdParameters=config_overrides
{more}
NodeName={nodes} NodeHostname=localhost NodeAddr=127.0.0.1 Port={node_ports} CPUs=1
PartitionName=low Nodes={nodes} Default=YES PriorityTier=1 GraceTime={grace} MaxTime=60
PartitionName=high Nodes={nodes} PriorityTier=10 PreemptMode=OFF MaxTime=60
"""


def find(program: str) -> str | None:
    """The path of a program of Slurm or munge."""
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *PLACES]))


def missing() -> list[str]:
    return [program for program in PROGRAMS if find(program) is None]


def free_ports(count: int) -> int:
    """The first of ``count`` free ports in a row."""
    for first in range(20_000 + secrets.randbelow(10_000), 40_000, count):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("There are no free ports in a row.")


class Slurm:
    """A cluster with ``nodes`` nodes of one processor each, all of them this machine.

    ``low`` is preempted by ``high``, with ``grace`` seconds between SIGTERM and the end;
    ``kill_wait`` is what a job gets at its very end.
    """

    def __init__(
        self, place: Path, *, nodes: int = 1, grace: int = 30, kill_wait: int = 30, more: str = ""
    ) -> None:
        self.place = place
        # The ranks meet at the first one's name, which is to be one that leads to this machine.
        self.names = [f"127.0.0.{number}" for number in range(1, nodes + 1)]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        first = free_ports(nodes + 1)
        (place / "state").mkdir(parents=True)
        (place / "slurm.conf").write_text(
            CONFIGURATION.format(
                controller_port=first,
                node_ports=f"{first + 1}" if nodes == 1 else f"[{first + 1}-{first + nodes}]",
                nodes="127.0.0.1" if nodes == 1 else f"127.0.0.[1-{nodes}]",
                user=psutil.Process().username(),
                place=place,
                credential=CREDENTIAL_SECONDS,
                kill_wait=kill_wait,
                grace=grace,
                more=more,
            )
        )
        (place / "munge.key").write_bytes(secrets.token_bytes(128))
        (place / "munge.key").chmod(0o600)

    @property
    def environment(self) -> dict[str, str]:
        """With which the commands find this cluster, and no other."""
        values = {name: value for name, value in os.environ.items() if name[:5] != "SLURM"}
        path = os.pathsep.join([os.environ["PATH"], *PLACES])
        return {**values, "SLURM_CONF": str(self.place / "slurm.conf"), "PATH": path}

    def __enter__(self) -> Self:
        try:
            self._start_munge()
            self._start("slurmctld", "slurmctld", "-D", "-c")
            for name in self.names:
                self.start_node(name)
            eventually(self.idle, f"up: {self.log()}", UP_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            self.call("scancel", f"--user={os.getuid()}")
            # What runs is told to end, and takes its mount away.
            eventually(self.idle, "idle", END_SECONDS)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """What was started by this cluster and still runs: steps, jobs and what these started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and self._is_ours(process):
                    found.append(process)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.name().startswith("slurmstepd"):
            # Its title has taken the place of its environment.
            return any(Path(file.path).is_relative_to(self.place) for file in process.open_files())
        return process.environ().get("SLURM_CONF") == str(self.place / "slurm.conf")

    # Daemons

    def start_node(self, name: str) -> None:
        self._start(name, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """SIGKILL to the node's slurmd; what it has started lives on."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def _start(self, name: str, *words: str) -> None:
        program = find(words[0])
        assert program is not None
        with (self.place / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [program, *words[1:]],
                env=self.environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _start_munge(self) -> None:
        at = str(self.place / "munge")
        options = [f"--socket={at}.socket", f"--key-file={at}.key", f"--pid-file={at}.pid"]
        options += [f"--log-file={at}.log", f"--seed-file={at}.seed"]
        # What it warns of is that others could take the place of this directory.
        self._start("munged", "munged", "--foreground", "--force", *options)
        eventually((self.place / "munge.socket").exists, f"munged: {self.log()}", UP_SECONDS)

    def idle(self) -> bool:
        """Whether all nodes are up, and nothing runs on them."""
        for name, daemon in self._daemons.items():
            assert daemon.poll() is None, f"{name} ended with {daemon.poll()}: {self.log()}"
        done = self.run("sinfo", "--noheader", "--Node", "--format=%N %T")
        return done.returncode == 0 and all(
            f"{name} idle" in done.stdout.splitlines() for name in self.names
        )

    def log(self) -> str:
        """The end of what each daemon has said."""
        paths = sorted([*self.place.glob("*.log"), *self.place.glob("*.out")])
        said = (f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)
        return "\n".join(said)

    # Commands

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> Any:
        return subprocess.run(
            words,
            env={**self.environment, **(env or {})},
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )

    def call(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """A command's stdout; one that fails is a failure."""
        done = self.run(*words, env=env)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.log()}"
        return str(done.stdout).strip()

    def submit(self, script: Path, *options: str, env: Mapping[str, str] | None = None) -> str:
        """Give a file to ``sbatch``; the number of the job."""
        return self.call("sbatch", "--parsable", *options, str(script), env=env)

    def job(self, number: str) -> dict[str, str]:
        """What the controller knows of a job."""
        words = self.call("scontrol", "show", "job", "--oneliner", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state(self, number: str) -> str:
        return self.job(number)["JobState"]

    def restarts(self, number: str) -> int:
        return int(self.job(number)["Restarts"])

    def await_state(self, number: str, *states: str, limit: float = JOB_SECONDS) -> dict[str, str]:
        def there() -> dict[str, str] | None:
            job = self.job(number)
            return job if job["JobState"] in states else None

        return eventually(there, f"{' or '.join(states)}: {self.log()}", limit)

    def await_end(self, number: str, limit: float = JOB_SECONDS) -> dict[str, str]:
        return self.await_state(number, *ENDED, limit=limit)
