"""How long a job of Slurm has between its SIGTERM and its SIGKILL."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What Slurm has without a setting of the cluster's.
DEFAULT_KILL_WAIT = 30
ASK_SECONDS = 20.0
BY_HAND = "Give the seconds from SIGTERM to SIGKILL yourself: --grace 30"

_KILL_WAIT = re.compile(r"^KillWait\s*=\s*(\d+)", re.MULTILINE)
_FIELD = re.compile(r"(?:^|\s)(\w+)=(\S*)")


@dataclass(frozen=True, slots=True)
class Grace:
    """Whole seconds, and what decides them, in words."""

    seconds: int
    why: str


def of_cluster(scontrol: str | None, partition: str | None) -> Grace:
    """What a job in ``partition`` has; None is the partition that jobs get without asking.

    ``scontrol`` is the program's path; None where there is no Slurm on this machine.

    Raises ConfigurationError if Slurm does not tell; UsageError if there is no such partition.
    """
    if scontrol is None:
        return Grace(DEFAULT_KILL_WAIT, "Slurm's default, for there is no scontrol on this machine")
    config = _ask(scontrol, "show", "config")
    partitions = _ask(scontrol, "show", "partition", "--oneliner")
    return decide(config, partitions, partition)


def decide(config: str, partitions: str, partition: str | None) -> Grace:
    """The same from what ``scontrol show`` prints of the cluster and of its partitions.

    A partition with a GraceTime lets a preempted job go on for so long. In one without, the SIGKILL
    comes KillWait after the SIGTERM. Of several partitions the shortest counts.
    """
    found = _KILL_WAIT.search(config)
    kill_wait = int(found[1]) if found else DEFAULT_KILL_WAIT
    known = [dict(_FIELD.findall(line)) for line in partitions.splitlines()]
    told = {each["PartitionName"]: each for each in known if "PartitionName" in each}
    if partition is None:
        names = [name for name, each in told.items() if each.get("Default") == "YES"]
    else:
        names = partition.split(",")
    for name in names:
        if name not in told:
            raise UsageError(
                f"This cluster has no partition {name!r}.", hint="See those that it has: sinfo -s"
            )
    return min(
        (_of_partition(name, told[name].get("GraceTime", ""), kill_wait) for name in names),
        key=lambda grace: grace.seconds,
        default=Grace(kill_wait, "KillWait of this cluster"),
    )


def _of_partition(name: str, grace_time: str, kill_wait: int) -> Grace:
    if grace_time.isdecimal() and int(grace_time) > 0:
        return Grace(int(grace_time), f"GraceTime of the partition {name}")
    return Grace(kill_wait, f"KillWait of this cluster, for the partition {name} has no GraceTime")


def _ask(*words: str) -> str:
    told = f"`{' '.join(['scontrol', *words[1:]])}`"
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"{told} did not end within {ASK_SECONDS:.0f} s.", hint=BY_HAND
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{words[0]} cannot be run: {error.strerror}.", hint=BY_HAND
        ) from error
    if done.returncode:
        raise ConfigurationError(f"{told} failed: {_last(done.stderr)}.", hint=BY_HAND)
    return done.stdout


def _last(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines()
    return lines[-1].rstrip(".") if lines else "it did not say why"
