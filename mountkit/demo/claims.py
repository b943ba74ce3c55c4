"""What the demo found out, and the claims that follow from it. No I/O: facts in, claims out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mountkit.demo.console import Claim
from mountkit.formatting import megabytes

#: Whether a claim held, and what shows it; None where the demo did not get that far.
Result = tuple[bool, str]
NOT_REACHED = "the demo did not get this far"


@dataclass(frozen=True, slots=True)
class Plan:
    """At which steps what happens. The daemon is killed, and the job stopped, between two saves."""

    steps: int = 50
    save_steps: int = 10
    kill_at: int = 25
    stop_at: int = 35

    @property
    def saves(self) -> list[int]:
        """The steps of all checkpoints."""
        return list(range(self.save_steps, self.steps + 1, self.save_steps))

    @property
    def resume_at(self) -> int:
        """The step of the last checkpoint before the stop."""
        return self.stop_at // self.save_steps * self.save_steps


@dataclass(slots=True)
class Damage:
    """What became of one byte flipped in the bucket."""

    path: str
    verify_code: int
    verify_said: str
    latest_after: str
    healed_code: int = -1


@dataclass(slots=True)
class Facts:
    """What was seen. ``lives`` holds the events of each life of the job."""

    lives: list[list[dict[str, Any]]] = field(default_factory=list)
    endings: list[int] = field(default_factory=list)
    killed_pid: int = 0
    remounted_pid: int = 0
    remount_seconds: float = 0.0
    verify_codes: dict[int, int] = field(default_factory=dict)
    bucket: dict[int, dict[str, str]] = field(default_factory=dict)
    damage: Damage | None = None
    secrets: int = 0
    secret_shown: bool | None = None
    left: list[str] | None = None

    def events(self, kind: str, life: int | None = None) -> list[dict[str, Any]]:
        """Events of one kind, of one life or of all."""
        lives = self.lives if life is None else self.lives[life : life + 1]
        return [event for events in lives for event in events if event["event"] == kind]

    def proven(self) -> dict[int, dict[str, Any]]:
        """Give what the callback reported as proven, by step."""
        return {event["step"]: event for event in self.events("CheckpointProven")}

    def losses(self, life: int) -> dict[int, float]:
        """Give the loss at each step of one life."""
        return {event["step"]: event["loss"] for event in self.events("loss", life)}


def judge(plan: Plan, facts: Facts) -> list[Claim]:
    """Say of every claim whether it held."""
    found = {
        "every checkpoint is proven in the store": all_proven(plan, facts),
        "the bucket's own files equal what was written, byte for byte": byte_for_byte(plan, facts),
        "SIGKILL of the mount daemon cost nothing": kill_cost_nothing(plan, facts),
        "exit codes tell the truth": stop_lost_nothing(plan, facts),
        f"the new process resumed from checkpoint-{plan.resume_at}, not from scratch": resumed(
            plan, facts
        ),
        "one flipped byte in the bucket is caught": damage_caught(plan, facts),
        "no secret is on a command line": no_secret_shown(facts),
        "nothing is left mounted or running": nothing_left(facts),
    }
    return [Claim(text, *(result or (False, NOT_REACHED))) for text, result in found.items()]


def all_proven(plan: Plan, facts: Facts) -> Result | None:
    """Every checkpoint was proven while training, and ``verify`` agrees afterwards."""
    proven = [event for step, event in facts.proven().items() if step in plan.saves]
    agreed = [step for step in plan.saves if facts.verify_codes.get(step) == 0]
    files, size = (sum(event[name] for event in proven) for name in ("files", "size"))
    evidence = (
        f"{len(proven)} of {len(plan.saves)} while training ({files} files, {megabytes(size)}); "
        f"mountkit verify agrees on {len(agreed)}"
    )
    return len(proven) == len(agreed) == len(plan.saves), evidence


def byte_for_byte(plan: Plan, facts: Facts) -> Result | None:
    """Compare what the training script read right after each save with the bucket."""
    written = {event["step"]: event["sha256"] for event in facts.events("written")}
    if not facts.bucket:
        return None
    equal = [
        step for step in plan.saves if written.get(step) and facts.bucket.get(step) == written[step]
    ]
    count = sum(len(written[step]) for step in equal)
    evidence = f"SHA-256 of {count} files in {len(equal)} of {len(plan.saves)} checkpoints"
    return equal == plan.saves, evidence


def kill_cost_nothing(plan: Plan, facts: Facts) -> Result | None:
    """After SIGKILL the mount came back by itself, and the next save of the same job was proven."""
    if not facts.killed_pid:
        return None
    if not facts.remounted_pid:
        return False, f"rclone {facts.killed_pid} had no successor"
    after = next(step for step in plan.saves if step > plan.kill_at)
    steps = {event["step"] for event in facts.events("CheckpointProven", 0)}
    evidence = (
        f"killed at step {plan.kill_at}, mounted again after {facts.remount_seconds:.1f} s; "
        f"checkpoint-{after} of the same job is {'' if after in steps else 'not '}proven"
    )
    return after in steps, evidence


def stop_lost_nothing(plan: Plan, facts: Facts) -> Result | None:
    """Look at both exit codes: the job that was told to end, and the one that ended well."""
    if len(facts.endings) < 2:
        return None
    first, second = facts.endings
    evidence = f"{first} after SIGTERM at step {plan.stop_at}, {second} at the end of training"
    return (first, second) == (143, 0), evidence


def resumed(plan: Plan, facts: Facts) -> Result | None:
    """See that the second life began at the newest proven checkpoint, in the same state."""
    begins = facts.events("begin", 1)
    if not begins:
        return None
    before, after = facts.losses(0), facts.losses(1)
    twice = sorted(step for step in before if step in after)
    same = [step for step in twice if abs(before[step] - after[step]) <= 1e-4 * before[step]]
    span = f"steps {twice[0]} to {twice[-1]}" if twice else "no step"
    evidence = (
        f"it began at step {begins[0]['step']}; {span} ran twice, "
        f"{len(same)} of {len(twice)} with the same loss"
    )
    held = begins[0]["step"] == plan.resume_at and bool(twice) and same == twice
    return held, evidence


def damage_caught(plan: Plan, facts: Facts) -> Result | None:
    """``verify`` names the damaged file, and ``latest`` steps back."""
    damage = facts.damage
    if damage is None:
        return None
    named = damage.path in damage.verify_said
    latest = damage.latest_after.rpartition("/")[2]
    evidence = (
        f"verify exits {damage.verify_code} and {'names' if named else 'does not name'} "
        f"{damage.path}; latest then gives {latest or 'nothing'}"
    )
    expected = f"checkpoint-{plan.saves[-2]}"
    held = (damage.verify_code, damage.healed_code) == (74, 0) and named and latest == expected
    return held, evidence


def no_secret_shown(facts: Facts) -> Result | None:
    """While everything ran, ps did not show a secret of the store's."""
    if facts.secret_shown is None:
        return None
    if not facts.secrets:
        return True, "the environment holds none to look for"
    evidence = "ps shows it" if facts.secret_shown else "looked for it in every process"
    return not facts.secret_shown, evidence


def nothing_left(facts: Facts) -> Result | None:
    """No mount and no process is left."""
    if facts.left is None:
        return None
    return not facts.left, "; ".join(facts.left) or "no mount, no process"
