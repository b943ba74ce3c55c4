"""The file for ``sbatch``, as text. No I/O.

Slurm tells a job that its end is near with SIGTERM to its *steps*: at preemption always, and before
the time limit because the file asks for that. The shell of the file itself hears of it only when
all is being killed. So mountkit runs in a step, one task on each node, and a small shell around it
notes that the signal came: only then is the job to be submitted again.

``srun`` itself must get no SIGTERM, by which it kills its tasks at once; ``scancel --signal`` sends
one to the tasks. It ends with the highest exit code of all tasks, so each node's code is translated
in the task, and back in the file's own shell: above what a signal gives (192 at most), and below
253, of which ``srun`` makes a 1.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from mountkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: From the end of the grace to the time limit: the step ends, and the job is submitted again.
AFTER_GRACE_SECONDS = 30
#: Of them, how long slurmctld is asked, which may just be started again.
PATIENCE_SECONDS = 15
#: How much earlier than mountkit torchrun kills its ranks, so that both do not do it.
RANKS_EARLIER_SECONDS = 5
#: What ``--signal`` takes.
LONGEST_SIGNAL_SECONDS = 65535
#: Restarts for 69 and 75, of which each takes two minutes at least; preemptions count, too.
RESTARTS = 100
#: ``sbatch`` options that this file decides about, or that would take apart what it does.
OWN_OPTIONS = frozenset(
    {
        *("array", "job-name", "no-requeue", "nodes", "ntasks", "ntasks-per-node", "open-mode"),
        *("partition", "requeue", "signal", "test-only", "time", "wrap"),
    }
)
SECRET_NAMES = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|API_KEY|CREDENTIALS", re.IGNORECASE)
#: A shorter value may be in any text.
SHORTEST_SECRET = 8

#: What does not hear of the other nodes by variables, and would train on each by itself.
LOCAL_LAUNCHERS = frozenset({"accelerate", "deepspeed", "mpirun", "horovodrun"})

_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_PARTITION = re.compile(r"[\w.+-]+(,[\w.+-]+)*", re.ASCII)
_PYTHON = re.compile(r"python[\d.]*")
_TIMES = (
    re.compile(r"(?P<minutes>\d+)"),
    re.compile(r"(?P<minutes>\d+):(?P<seconds>\d\d)"),
    re.compile(r"(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)"),
    re.compile(r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d\d)(:(?P<seconds>\d\d))?)?"),
)
_UNITS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}

TASK = """\
# In the task of each node: mountkit, and whether Slurm has asked for the end.
asked=no peer=no signals=0
on_signal() {
    echo "mountkit slurm: node $SLURM_NODEID was sent $1, and ends" >&2
    signals=$((signals + 1))
    [ -z "${run:-}" ] || kill -TERM "$run" 2>/dev/null
}
trap "asked=yes; on_signal SIGTERM" TERM
trap "peer=yes; on_signal SIGHUP" HUP
export MOUNTKIT_NODE="$SLURM_NODEID" PET_NODE_RANK="$SLURM_NODEID"
"$@" &
run=$!
[ "$signals" = 0 ] || kill -TERM "$run"
# bash 5.2 loses the code of one that ends while a signal cuts a wait short: wait once it is over.
exec {idle}<> <(:)
while kill -0 "$run" 2>/dev/null; do read -rt 0.2 -u "$idle"; done
while :; do
    before=$signals
    wait "$run"
    code=$?
    # A wait that a signal cut short says nothing of the code.
    [ "$signals" != "$before" ] || break
done
echo "mountkit slurm: node $SLURM_NODEID ended with $code" >&2
if [ "$code" != 0 ] && [ "$SLURM_NNODES" != 1 ] && [ "$asked$peer" = nono ]; then
    # The other nodes would wait for this one. SIGHUP tells them to end, and this one has ended.
    trap "" HUP
    scancel --signal=HUP "$SLURM_JOB_ID"
fi
case $code in
    2) exit 242 ;;
    77) exit 243 ;;
    78) exit 244 ;;
esac
[ "$asked" = no ] || exit 240
[ "$peer" = no ] || exit 0
exit "$code"
"""

MEETING = """\
# Where the nodes meet. torchrun reads PET_*, other launchers MASTER_*.
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT
export PET_MASTER_ADDR="$MASTER_ADDR" PET_MASTER_PORT="$MASTER_PORT" PET_NNODES="$SLURM_NNODES"
"""

REQUEUE = """\
# Wrong usage, no permission, a wrong setting: trying again would not help.
case $code in
    242) exit 2 ;;
    243) exit 77 ;;
    244) exit 78 ;;
    240)
        why="Slurm has asked for the end"
        code=143
        ;;
    69 | 75)
        [ "${SLURM_RESTART_COUNT:-0}" -lt "$restarts" ] || exit "$code"
        why="exit code $code may pass"
        ;;
    *) exit "$code" ;;
esac
# One that was cancelled stays so, and where Slurm has submitted it again already, it is not ours.
until=$((SECONDS + patience))
while ! job="$(timeout 8 scontrol show job --oneliner "$SLURM_JOB_ID")"; do
    if [ "$SECONDS" -ge "$until" ]; then
        echo "mountkit slurm: Slurm does not say what became of the job" >&2
        job=unknown
        break
    fi
    sleep 1
done
case "$job" in
    *" JobState=RUNNING "*" Restarts=${SLURM_RESTART_COUNT:-0} "* | unknown) ;;
    *) exit "$code" ;;
esac
echo "mountkit slurm: $why; the job is submitted again" >&2
scontrol requeue "$SLURM_JOB_ID" && exit 0
echo "mountkit slurm: by hand: scontrol requeue $SLURM_JOB_ID" >&2
exit 75
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A run, and what to ask Slurm for. ``check`` says whether it can work.

    Attributes
    ----------
    mountkit:
        The program, and what it is called with up to SOURCE: ``mountkit run`` and its options.
    grace:
        Seconds from SIGTERM to SIGKILL.
    sbatch:
        Further options of ``sbatch``, such as ``("gpus-per-node", "8")``; "" for one without value.
    setup:
        Lines of shell that come before anything else, as they are.
    """

    source: str
    target: str
    command: tuple[str, ...]
    grace: int
    mountkit: tuple[str, ...] = ("mountkit", "run")
    nodes: int = 1
    name: str = ""
    time: str = ""
    partition: str = ""
    sbatch: tuple[tuple[str, str], ...] = field(default=())
    setup: tuple[str, ...] = field(default=())
    restarts: int = RESTARTS

    @property
    def words(self) -> tuple[str, ...]:
        """What runs on each node."""
        grace = ("--grace", str(self.grace))
        return (*self.mountkit, *grace, self.source, self.target, "--", *self.command)

    @property
    def signal_seconds(self) -> int:
        """How long before its time limit the job is sent SIGTERM."""
        return self.grace + AFTER_GRACE_SECONDS

    @property
    def rank_seconds(self) -> int:
        """How long ranks have from SIGTERM on, where a launcher ends them: the command's share."""
        share = self.grace * 6 // 10
        return max(1, share - min(RANKS_EARLIER_SECONDS, 1 + share // 5))

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Everything that ``sbatch`` reads, in order."""
        own = [
            ("job-name", self.name or _name(self.source)),
            ("partition", self.partition),
            ("time", self.time),
            ("nodes", str(self.nodes)),
        ]
        fixed = [
            ("ntasks-per-node", "1"),
            ("requeue", ""),
            ("open-mode", "append"),
            ("signal", f"TERM@{self.signal_seconds}"),
        ]
        return (*((name, value) for name, value in own if value), *fixed, *self.sbatch)


def parse_option(text: str) -> tuple[str, str]:
    """``--sbatch KEY=VALUE``, or ``KEY`` alone, as it is in ``Job.sbatch``.

    Raises UsageError if it is neither, or decided by the file itself.
    """
    key, _, value = text.partition("=")
    key = key.removeprefix("--")
    if not _OPTION.fullmatch(key) or not _on_one_line(value):
        raise UsageError(
            f"--sbatch {text!r} is not KEY=VALUE.", hint="Such as: --sbatch gpus-per-node=8"
        )
    if key in OWN_OPTIONS:
        raise UsageError(
            f"--sbatch {key} is mountkit's own to set.",
            hint="See what it has an option of its own for: mountkit slurm --help",
        )
    return key, value


def check(job: Job, environment: Mapping[str, str]) -> None:
    """Refuse what cannot work, or would put a secret into the file.

    Raises UsageError, which says what to change.
    """
    if not job.command:
        raise UsageError(
            "There is no command to run.",
            hint="Such as: mountkit slurm s3://bucket/run-1 /tmp/run-1 -- python train.py",
        )
    if not PurePath(job.target).is_absolute():
        raise UsageError(
            f"{job.target} is not an absolute path.",
            hint="The job runs on another machine, and may begin in another directory: give the "
            "path from / on, such as /tmp/run-1",
        )
    if not _on_one_line(job.name):
        raise UsageError(f"--name {job.name!r} is not one line.", hint="Give another: --name run-1")
    if job.partition and not _PARTITION.fullmatch(job.partition):
        raise UsageError(
            f"--partition {job.partition!r} is not the name of a partition.",
            hint="See those that there are: sinfo -s",
        )
    if job.grace < 1:
        raise UsageError(
            f"--grace {job.grace} leaves no time to end in.",
            hint="Give the seconds from SIGTERM to SIGKILL: --grace 30",
        )
    if job.signal_seconds > LONGEST_SIGNAL_SECONDS:
        raise UsageError(
            f"--grace {job.grace} is more than Slurm's --signal takes.",
            hint=f"Give {LONGEST_SIGNAL_SECONDS - AFTER_GRACE_SECONDS} at most.",
        )
    if any("$" in word for word in job.mountkit):
        raise UsageError(
            "A variable in an option stays as it is in the file: no shell reads it there.",
            hint="Set it in the job: --setup 'export MOUNTKIT_CACHE_DIR=$SLURM_TMPDIR/cache'",
        )
    _check_time(job)
    if job.nodes > 1 and job.source.rstrip("/") == f"file://{job.target.rstrip('/')}":
        raise UsageError(
            f"{job.nodes} nodes cannot save into {job.source} directly: none of them can tell what "
            "it has written itself.",
            hint="Mount it on each node: give another directory as TARGET, such as /tmp/run-1",
        )
    if job.nodes > 1:
        _check_launcher(job.command)
    _check_secrets((*job.words, *job.setup, *(value for _, value in job.sbatch)), environment)


def render(job: Job) -> str:
    """The file, as text."""
    options = "\n".join(f"#SBATCH --{name}{_value(value)}" for name, value in job.options)
    setup = "".join(f"{line}\n" for line in job.setup)
    return f"""\
#!/bin/bash
{options}

# Made by `mountkit slurm`. Submit it once: sbatch FILE. Slurm submits it again, or it does so
# itself, until the command has come to its end. `scancel` ends it for good.
# No secret is in it: the job gets the environment of whoever submits it.
restarts={job.restarts} nodes={job.nodes} patience={PATIENCE_SECONDS}
{setup}
# Whatever the lines above have set: a shell that ends with srun could not submit the job again.
set +eu
if [ "$SLURM_NNODES" != "$nodes" ]; then
    echo "mountkit slurm: this file is for $nodes nodes, and the job has $SLURM_NNODES: make" \\
        "another file with --nodes $SLURM_NNODES" >&2
    exit 2
fi
# What is mounted is noted in /tmp: this directory goes with the last log-in to the machine.
unset XDG_RUNTIME_DIR
export MOUNTKIT_RESUME="${{MOUNTKIT_RESUME:-1}}"
# How long torchrun leaves its ranks to save, from SIGTERM on: a little less than it has itself.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${{TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-{job.rank_seconds}}}"
# With sbatch --export=NONE, srun would keep all that is set here from the nodes.
export SLURM_EXPORT_ENV=ALL
# srun does not take this over from sbatch by itself.
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
{MEETING if job.nodes > 1 else ""}
task='{TASK}'
# Where all is killed, this shell gets SIGTERM too: it waits for the step.
trap : TERM
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --mpi=none \\
    --kill-on-bad-exit=0 --wait=0 /bin/bash -c "$task" mountkit-slurm \\
    {shlex.join(job.words)}
code=$?

{REQUEUE}"""


def _value(value: str) -> str:
    return f"={shlex.quote(value)}" if value else ""


def _on_one_line(text: str) -> bool:
    return not any(ord(character) < 32 or ord(character) == 127 for character in text)


def _name(source: str) -> str:
    """A name for the job: the last part of the URL."""
    last = source.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.+-]", "-", last, flags=re.ASCII) or "mountkit"


def _check_time(job: Job) -> None:
    if not job.time:
        return
    seconds = seconds_of(job.time)
    if seconds is None:
        raise UsageError(
            f"--time {job.time!r} is no time limit.",
            hint="Minutes, or HOURS:MINUTES:SECONDS, or DAYS-HOURS: --time 24:00:00",
        )
    # Slurm may send the signal a minute early.
    if seconds <= job.signal_seconds + 60:
        raise UsageError(
            f"A time limit of {seconds} s leaves nothing for the training: SIGTERM comes "
            f"{job.signal_seconds} to {job.signal_seconds + 60} s before it.",
            hint="Give more: --time; or less for the end: --grace",
        )


def seconds_of(text: str) -> int | None:
    """The seconds of a time limit as ``sbatch`` reads it; None if it is none."""
    for kind in _TIMES:
        if found := kind.fullmatch(text):
            parts = found.groupdict()
            return sum(int(parts[name] or 0) * _UNITS[name] for name in parts)
    return None


def _check_launcher(command: tuple[str, ...]) -> None:
    program = PurePath(command[0]).name
    module = command[1:3] in {("-m", "torch.distributed.run"), ("-m", "torch.distributed.launch")}
    alone = _PYTHON.fullmatch(program) and not module
    if alone or program in LOCAL_LAUNCHERS:
        raise UsageError(
            f"On many nodes {program!r} would start a training of its own on each.",
            hint="Start the ranks with torchrun, which is told of the other nodes by variables: "
            "-- torchrun --nproc-per-node 8 train.py",
        )
    if (program == "torchrun" or module) and "--standalone" in command:
        raise UsageError("--standalone keeps torchrun to one node.", hint="Leave --standalone out.")


def _check_secrets(words: Iterable[str], environment: Mapping[str, str]) -> None:
    text = "\0".join(words)
    for name, value in environment.items():
        if SECRET_NAMES.search(name) and len(value) >= SHORTEST_SECRET and value in text:
            raise UsageError(
                f"The value of {name} would stand in the file.",
                hint=f"Leave it out: the job gets {name} from the environment of `sbatch`.",
            )
