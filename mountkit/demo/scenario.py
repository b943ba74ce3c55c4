"""The demo from beginning to end: train, kill the mount, stop, resume, verify, and judge."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.config import environment
from mountkit.demo.claims import Damage, Facts, Plan, judge
from mountkit.demo.console import Account
from mountkit.demo.environment import Stage, StoryError
from mountkit.demo.s3_server import EmbeddedS3
from mountkit.demo.training import digests
from mountkit.errors import ConfigurationError
from mountkit.linux import fusermount
from mountkit.linux.signals import ENDING, handled, leave
from mountkit.names import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mountkit.demo.environment import Life

BUCKET = "demo"
KILL_SECONDS = 5.0
VICTIM = "model.safetensors"


def run_demo(keep: bool, data_dir: Path | None) -> int:
    """Play the demo and print its account on stderr.

    Parameters
    ----------
    keep:
        Leave the bucket's files where they are, and say where.
    data_dir:
        The directory of the buckets. None for a temporary one.

    Returns 0 if every claim held, else 1.

    Raises MountkitError if the demo cannot begin: no torch, no rclone, no FUSE.
    """
    for module in ("torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise ConfigurationError(
                f"The demo trains with transformers, and {module} is not installed.",
                hint="Install it: pip install 'mountkit[trainer,rclone]'",
            )
    fusermount.fusermount(environment.search_path())
    binary = backends.load("rclone").binary(environment.search_path()).path
    account, facts, plan = Account(), Facts(), Plan()
    # SIGTERM and SIGHUP clear up just as Ctrl-C does.
    clearing_up = handled((signal.SIGTERM, signal.SIGHUP), leave)
    with clearing_up, _stage(data_dir, keep) as (stage, data, run):
        story = Story(account, stage, facts, plan, data / BUCKET / run)
        try:
            with EmbeddedS3(data=data, buckets=[BUCKET], binary=binary) as server:
                account.tell("server", f"S3 on {server.endpoint_url}, its data in {data}")
                stage.use(server.environment())
                try:
                    story.play(f"s3://{BUCKET}/{run}", server)
                finally:
                    with _undisturbed():
                        stage.strike()
        except StoryError as error:
            account.tell("trouble", str(error))
            account.quote("the end of the job's output", stage.last_words())
        finally:
            with _undisturbed():
                facts.left = stage.left()
                stage.sweep()
        claims = judge(plan, facts)
        account.table(claims)
        held = all(claim.held for claim in claims)
        verdict = "Every claim held" if held else "Not every claim held"
        account.tell("done" if held else "trouble", f"{verdict}.")
        if keep:
            # Of a directory that was given, only what this run made is the demo's to remove.
            place = shlex.quote(str(data / BUCKET / run))
            rubbish = place if data_dir is not None else shlex.quote(str(data))
            account.tell("kept", f"the bucket's files; look: find {place} -type f")
            account.tell("kept", f"remove them: rm -r {rubbish}")
    return 0 if held else 1


class Story:
    """The acts, in order. Each leaves what it saw in the facts."""

    def __init__(
        self, account: Account, stage: Stage, facts: Facts, plan: Plan, bucket: Path
    ) -> None:
        self.account = account
        self.stage = stage
        self.facts = facts
        self.plan = plan
        self.bucket = bucket

    def play(self, source: str, server: EmbeddedS3) -> None:
        """Play all acts.

        Raises StoryError if one cannot be played to its end.
        """
        endpoint = server.endpoint_url
        self.account.tell("mount", f"{source} at {self.stage.target}")
        self.account.tell("run", "mountkit run … -- python -m mountkit.demo.training (loads torch)")
        self.first_life(source, endpoint, server.secret_key)
        self.account.tell("run", "the same command again, in a new process")
        self.second_life(source, endpoint)
        self.verify(source, endpoint)
        self.damage(source, endpoint)

    def options(self, *pauses: int) -> list[str]:
        """Put together the options of the training script."""
        words = ["--steps", str(self.plan.steps), "--save-steps", str(self.plan.save_steps)]
        return [*words, *(word for step in pauses for word in ("--pause-at", str(step)))]

    def first_life(self, source: str, endpoint: str, secret: str) -> None:
        """Train, kill the daemon between two saves, and stop between two later ones."""
        pauses = self.options(self.plan.kill_at, self.plan.stop_at)
        life = self.stage.begin(source, endpoint, pauses)
        seen = self.begin_life()
        killed_at = 0.0
        for event in life.events():
            if killed_at and not self.facts.remounted_pid:
                self.watch_for_successor(killed_at)
            if event is None:
                continue
            seen.append(event)
            self.account.event(event)
            if event["event"] == "pause" and event["step"] == self.plan.kill_at:
                self.facts.secret_shown = secret in self.stage.command_lines()
                killed_at = self.kill_daemon()
                (self.stage.gates / f"go-{self.plan.kill_at}").touch()
            elif event["event"] == "pause" and event["step"] == self.plan.stop_at:
                saved = f"checkpoint-{event['saved']} is proven"
                self.account.tell("stop", f"SIGTERM to the job at step {event['step']}; {saved}")
                life.terminate()
        self.end_life(life, 128 + signal.SIGTERM)

    def kill_daemon(self) -> float:
        """SIGKILL the daemon and see it dead. Returns when, on the monotonic clock."""
        daemon = self.stage.daemon()
        if daemon is None:
            raise StoryError("There is no mount daemon to kill.")
        killed_at = time.monotonic()
        if not daemon.send(signal.SIGKILL) or not daemon.wait(KILL_SECONDS):
            raise StoryError(f"rclone {daemon.pid} could not be killed.")
        self.facts.killed_pid = daemon.pid
        self.account.tell(
            "kill", f"SIGKILL to rclone {daemon.pid} at step {self.plan.kill_at}, between two saves"
        )
        return killed_at

    def watch_for_successor(self, killed_at: float) -> None:
        """Take note of the new daemon once it serves."""
        daemon = self.stage.daemon()
        if daemon is None or daemon.pid == self.facts.killed_pid:
            return
        self.facts.remounted_pid = daemon.pid
        self.facts.remount_seconds = time.monotonic() - killed_at
        after = f"{self.facts.remount_seconds:.1f} s after the kill"
        self.account.tell("remount", f"rclone {daemon.pid} serves the same path, {after}")

    def second_life(self, source: str, endpoint: str) -> None:
        """Run the same command again, to the end of training."""
        life = self.stage.begin(source, endpoint, self.options())
        seen = self.begin_life()
        for event in life.events():
            if event is not None:
                seen.append(event)
                self.account.event(event)
        self.end_life(life, 0)

    def begin_life(self) -> list[dict[str, object]]:
        """Open a new page for the events of a life."""
        self.facts.lives.append([])
        return self.facts.lives[-1]

    def end_life(self, life: Life, expected: int) -> None:
        """Take note of the exit code; a wrong one ends the story."""
        code = life.code()
        self.facts.endings.append(code)
        self.account.tell("exit", f"mountkit run exits {code}")
        if code != expected:
            raise StoryError(f"mountkit run exited {code} where {expected} was expected.")

    def verify(self, source: str, endpoint: str) -> None:
        """Ask ``mountkit verify`` about every checkpoint, and read the bucket's own files."""
        for step in self.plan.saves:
            url = f"{source}/checkpoint-{step}"
            answer = self.stage.ask("verify", url, "--endpoint-url", endpoint)
            self.facts.verify_codes[step] = answer.returncode
            # The files as the server keeps them.
            found = digests(self.bucket / f"checkpoint-{step}")
            found.pop(MANIFEST_NAME, None)
            self.facts.bucket[step] = found
        good = sum(code == 0 for code in self.facts.verify_codes.values())
        self.account.tell("verify", f"{good} of {len(self.plan.saves)} checkpoints are intact")

    def damage(self, source: str, endpoint: str) -> None:
        """Flip a byte of the newest checkpoint in the bucket, see it caught, and flip it back."""
        step = self.plan.saves[-1]
        url = f"{source}/checkpoint-{step}"
        path = self.bucket / f"checkpoint-{step}" / VICTIM
        if not path.exists():
            raise StoryError(f"{path} is not there to be damaged.")
        flip_byte(path)
        try:
            self.account.tell("damage", f"one byte of checkpoint-{step}/{VICTIM} flipped")
            verdict = self.stage.ask("verify", url, "--endpoint-url", endpoint)
            latest = self.stage.ask("latest", source, "--endpoint-url", endpoint).stdout.strip()
        finally:
            flip_byte(path)
        said, code = f"{verdict.stdout}\n{verdict.stderr}", verdict.returncode
        self.facts.damage = Damage(VICTIM, code, said, latest)
        self.account.tell("verify", f"exits {code}; latest gives {latest or 'nothing'}")
        healed = self.stage.ask("verify", url, "--endpoint-url", endpoint)
        self.facts.damage.healed_code = healed.returncode


def flip_byte(path: Path) -> None:
    """Flip every bit of the byte in the middle of a file, as one who overwrites the object would.

    The time of change has to move with it: rclone's server remembers the checksum of a file whose
    size and time are the same, and would go on to tell the old one for a second.
    """
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 0xFF]))


@contextmanager
def _stage(data_dir: Path | None, keep: bool) -> Iterator[tuple[Stage, Path, str]]:
    """Give the demo its directories, and this run its place in the bucket; clear up."""
    stage = Stage()
    try:
        run = f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        if data_dir is not None:
            data = data_dir.absolute()
        elif keep:
            data = Path(tempfile.mkdtemp(prefix="mountkit-demo-"))
        else:
            data = stage.work / "data"
        try:
            (data / BUCKET).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{data / BUCKET} cannot be made: {error.strerror}.",
                hint="Give another directory: mountkit demo --data-dir DIR",
            ) from error
        try:
            yield stage, data, run
        finally:
            if not keep:
                shutil.rmtree(data / BUCKET / run, ignore_errors=True)
    finally:
        stage.remove()


def _undisturbed() -> AbstractContextManager[None]:
    """Let a second Ctrl-C not cut short the clearing up, which is bounded anyway."""
    return handled(ENDING, signal.SIG_IGN)
