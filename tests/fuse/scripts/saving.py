"""A training that does nothing but save, again and again, and saves anew what an error tore.

``python saving.py OUTPUT_DIR GATES [--first STEP] [--count SAVES] [--how plain|prove]``

It ends after ``--count`` saves, and in any case not before somebody has made the file ``enough`` in
GATES. What it does is told line by line in GATES/saves: the event, the step, and words. The bytes
of a checkpoint follow from its step alone.

plain    plain file I/O; an error has the directory cleared and written once more
prove    the same by mountkit's own means, which prove each checkpoint beside the next save
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import shutil
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from light import noise, safetensors, trainer_state

if TYPE_CHECKING:
    from collections.abc import Callable

# A save takes its time, so that something can happen in the middle of one.
PIECES = 16
PIECE_SECONDS = 0.005
STEPS_BETWEEN = 5
TRIES = 40
AGAIN_SECONDS = 0.1
BACK_SECONDS = 90.0
LOG = "saves"


def files(step: int, size: int = 0) -> dict[str, bytes]:
    """The files of a checkpoint in the order in which they are written."""
    size = size or random.Random(step).randrange(20_000, 300_000)
    return {
        "config.json": b'{"model_type": "gpt2"}',
        "model.safetensors": safetensors(step, size),
        "optimizer.pt": noise(step, "optimizer.pt", size // 2),
        "rank 0/rng_state.pth": noise(step, "rng", 3_000),
        "trainer_state.json": trainer_state(step),
    }


class Log:
    """Tells the test what happens; a line is written at once."""

    def __init__(self, gates: Path) -> None:
        self.path = gates / LOG

    def tell(self, event: str, step: int, words: object = "") -> None:
        line = f"{event} {step} {words!s}".replace("\n", " ") + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def write(directory: Path, content: dict[str, bytes]) -> None:
    directory.mkdir()
    for name, data in content.items():
        path = directory / name
        if path.parent != directory:
            path.parent.mkdir(exist_ok=True)
        piece = max(4 << 10, len(data) // PIECES)
        with path.open("wb") as stream:
            for start in range(0, len(data), piece):
                stream.write(data[start : start + piece])
                stream.flush()
                time.sleep(PIECE_SECONDS)


def answers(output: Path) -> bool:
    """Whether a mount is there, and somebody serves it: a dead one may be one all the same."""
    try:
        next(output.iterdir(), None)
    except OSError:
        return False
    return os.path.ismount(output)


def await_mount(output: Path) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not answers(output):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{output} does not come back")
        time.sleep(0.02)


class Plain:
    """Saves as a training framework would that knows nothing of mountkit."""

    def __init__(self, options: argparse.Namespace, log: Log) -> None:
        self.output = options.output
        self.size = options.size
        self.log = log

    def save(self, step: int) -> None:
        directory = self.output / f"checkpoint-{step}"
        for number in range(TRIES):
            if self.attempt(directory, step, anew=number > 0):
                return
            # An error may come before the mount is gone.
            time.sleep(AGAIN_SECONDS)
        raise TimeoutError(f"checkpoint-{step} could not be saved in {TRIES} tries")

    def attempt(self, directory: Path, step: int, *, anew: bool) -> bool:
        try:
            await_mount(self.output)
            if anew and directory.exists():
                shutil.rmtree(directory)
            write(directory, files(step, self.size))
        except OSError as error:
            self.log.tell("torn", step, error)
            return False
        self.log.tell("saved", step)
        return True

    def end(self) -> None:
        """Nothing is outstanding."""


class Prove:
    """Saves as CheckpointCallback does: repeats what was torn, proves beside the next save."""

    def __init__(self, options: argparse.Namespace, log: Log) -> None:
        from mountkit.config import settings, timeouts
        from mountkit.mounts.mount import Mount
        from mountkit.proof.committer import Prover
        from mountkit.training.save_retry import SaveRetrier

        mount = Mount.containing(options.output)
        assert mount is not None
        self.mount = mount
        self.limits = timeouts.limits(settings.load())
        self.output = options.output
        self.size = options.size
        self.keep = options.keep
        self.log = log
        self.prover = Prover(mount, "", self.limits, lambda _: None)
        self.save_retrier = SaveRetrier(mount, self.prover, self.limits, lambda _: None)
        self.pool = ThreadPoolExecutor(1)
        self.proof: Future[None] | None = None
        self.proven: list[int] = []

    def save(self, step: int) -> None:
        name = f"checkpoint-{step}"
        content = files(step, self.size)

        def work() -> None:
            try:
                write(self.output / name, content)
            except OSError as error:
                self.log.tell("torn", step, error)
                raise

        self.end()
        for number in range(TRIES):
            attempt = functools.partial(self.attempt, name, work, anew=number > 0)
            if self.told("torn", step, attempt):
                self.log.tell("saved", step)
                at = datetime.now(UTC)
                self.proof = self.pool.submit(self.prove, step, sorted(content), at)
                return
        raise TimeoutError(f"{name} could not be saved in {TRIES} tries")

    def attempt(self, name: str, work: Callable[[], None], *, anew: bool) -> None:
        self.mount.wait_until_serving(self.limits.repair)
        if anew:
            self.prover.remove(name)
        self.prover.begin(name)
        self.save_retrier.save(name, work)
        # As the callback does once all others have been told of the save.
        self.mount.directory.ranks.done(name, self.save_retrier.made, 0)

    def prove(self, step: int, names: list[str], saved: datetime) -> None:
        name = f"checkpoint-{step}"
        prove = functools.partial(self.prover.prove, name, step, names, saved=saved)
        if self.told("unproven", step, prove):
            self.log.tell("proven", step)
            self.proven.append(step)
            self.told("kept", step, self.retain)

    def retain(self) -> None:
        while self.keep and len(self.proven) > self.keep:
            if not self.prover.remove(f"checkpoint-{self.proven[0]}"):
                return
            self.log.tell("removed", self.proven.pop(0))

    def told(self, event: str, step: int, work: Callable[[], object]) -> bool:
        """Whether it went well; what went wrong is told, and ends it if trying again is no use."""
        from mountkit.errors import MountkitError, PermissionDeniedError

        try:
            work()
        except PermissionDeniedError:
            raise
        except (MountkitError, OSError) as error:
            self.log.tell(event, step, error)
            return False
        return True

    def end(self) -> None:
        if self.proof is not None:
            self.proof.result()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("gates", type=Path)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--size", type=int, default=0, help="of the weights; else by the step")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds from save to save")
    parser.add_argument("--keep", type=int, default=0, help="how many proven ones stay")
    parser.add_argument("--how", choices=["plain", "prove"], default="plain")
    options = parser.parse_args()
    log = Log(options.gates)
    saver = Plain(options, log) if options.how == "plain" else Prove(options, log)
    step = options.first
    last = options.first + STEPS_BETWEEN * options.count
    while step < last or not (options.gates / "enough").exists():
        log.tell("begin", step)
        saver.save(step)
        step += STEPS_BETWEEN
        time.sleep(options.pause)
    saver.end()
    log.tell("end", step)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001 - the test reads which, and mountkit's code for it
        print(f"saving.py: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
