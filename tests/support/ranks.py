"""Several processes that train together, on one machine or on two that are one in this test."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import psutil

from support.rig import SCRIPTS, eventually

if TYPE_CHECKING:
    from support.rig import Job
    from support.training import Training

ACCELERATE = "accelerate.commands.launch"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def free_port() -> int:
    """A port of the loopback for the ranks to meet at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def together(
    training: Training,
    *options: str,
    each: int = 2,
    nodes: int = 1,
    node: int = 0,
    port: int = 0,
    forked: bool = True,
) -> list[str]:
    """The training in ``each`` processes of a node; not ``forked``, they load what they need."""
    command = training.command if forked else training.from_the_start
    how = [str(SCRIPTS / "launch.py"), *map(str, (nodes, node, each, port or free_port()))]
    return [sys.executable, "-S", *how, *command("--save-steps", "2", *options)]


def by_torchrun(training: Training, *options: str) -> list[str]:
    """The training in two processes that torchrun starts."""
    python, *words = training.from_the_start("--save-steps", "2", *options)
    return [python, *TORCHRUN, *words]


def by_accelerate(training: Training, *options: str) -> list[str]:
    """The training in two processes that accelerate starts."""
    python, *words = training.from_the_start("--save-steps", "2", *options)
    port = ["--main_process_port", str(free_port())]
    how = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    # Told that there is no GPU, it starts one process: the training says so itself.
    return [python, "-m", ACCELERATE, "--multi_gpu", *how, *port, "--dynamo_backend", "no", *words]


def rank_of(job: Job, number: int) -> psutil.Process:
    """The process of a rank below a job; with it goes what it stands for."""

    def found() -> psutil.Process | None:
        for process in psutil.Process(job.process.pid).children(recursive=True):
            try:
                env, words = process.environ(), process.cmdline()
            except psutil.Error:
                continue
            scripts = ("/forked.py", "/train.py")
            if env.get("RANK") == str(number) and any(word.endswith(scripts) for word in words):
                return process
        return None

    process: psutil.Process = eventually(found, f"rank {number} runs")
    return process
