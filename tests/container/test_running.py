"""A run in a container: mounted, proven, and ended with the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from support.assertions import assert_proven
from support.containers import FUSE, eventually

if TYPE_CHECKING:
    from support.containers import ContainerRig
    from support.rig import Bucket

# What a container with a root file system that takes nothing needs: fusermount3 refuses a mount
# point that the user may not write to, and mountkit one at which something is mounted already.
OWN = "uid=1000,gid=1000,mode=0700"
WRITABLE = ("/tmp", f"/var/cache/mountkit:{OWN}", f"/mnt:{OWN}")


@pytest.mark.fault(4)
def test_what_a_run_saves_is_proven(rig: ContainerRig, bucket: Bucket) -> None:
    answer = rig.run(*rig.light("save:10", "model:final"))
    assert answer.code == 0, answer
    assert "all that was written is proven" in answer.err
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert "run/final/model.safetensors" in bucket.files()


@pytest.mark.fault(4)
def test_on_a_root_that_takes_nothing(rig: ContainerRig, bucket: Bucket) -> None:
    places = [word for place in WRITABLE for word in ("--tmpfs", place)]
    answer = rig.run(*rig.light("save:10"), options=("--read-only", *places))
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


def test_the_training_is_an_ordinary_user_and_nobody_is_left_unwaited_for(
    rig: ContainerRig, bucket: Bucket
) -> None:
    # Grandchildren whose parents have ended are PID 1's to wait for.
    orphans = "for each in 1 2 3; do (true &); (sh -c 'sleep 0.1 &') ; done"
    script = f"id -u >{rig.target}/who && {orphans}; touch /gates/ready; exec sleep 60"
    container = rig.begin("sh", "-c", script, MOUNTKIT_GRACE="60")
    rig.await_word("ready", container)
    eventually(lambda: not container.zombies(), "waited for")
    who = container.exec("cat", f"{rig.target}/who")
    assert who.out.strip() not in {"", "0"}, who
    # Its own processes belong to that user, and so does the daemon.
    owner = container.exec("stat", "-c", "%u", f"/proc/{rig.daemon_of(container)}")
    assert owner.out == who.out
    container.stop(60)
    answer = container.wait()
    assert answer.code == 143, answer


def test_the_health_check_says_whether_a_mount_is_there(rig: ContainerRig, bucket: Bucket) -> None:
    often = ("--health-interval", "2s", "--health-start-period", "0s", "--health-retries", "1")
    container = rig.begin(*rig.light("save:10", "say:saved", "wait:go"), options=often)
    without = rig.begin("1000", options=(*often, "--entrypoint", "sleep"))
    rig.await_word("saved", container)
    for each, wanted in ((container, "healthy"), (without, "unhealthy")):
        eventually(lambda each=each, wanted=wanted: each.health == wanted, wanted)
    rig.say("go")
    answer = container.wait()
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


@pytest.mark.parametrize("backend", ["rclone"], indirect=True, scope="session")
class TestOnOneBackend:
    """What is decided before there is a mount, or does not depend on who mounts."""

    def test_the_commands_own_code(self, rig: ContainerRig) -> None:
        assert rig.run(*rig.light("save:10", "exit:3")).code == 3

    def test_without_a_bucket_it_runs_locally_and_says_so(self, rig: ContainerRig) -> None:
        answer = rig.run("sh", "-c", "echo here; exit 4", fuse=(), MOUNTKIT_SOURCE=None)
        assert answer.code == 4, answer
        assert answer.out == "here\n"
        assert "no bucket is configured" in answer.err

    @pytest.mark.fault(18)
    def test_wrong_credentials(self, rig: ContainerRig) -> None:
        answer = rig.run("touch", "/gates/ran", AWS_SECRET_ACCESS_KEY="f" * 40)
        assert answer.code == 77, answer
        assert "The store refused the credentials" in answer.err
        assert "f" * 40 not in answer.out + answer.err
        assert not (rig.gates / "ran").exists()

    @pytest.mark.fault(18)
    def test_no_credentials(self, rig: ContainerRig) -> None:
        missing = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
        answer = rig.run("touch", "/gates/ran", **missing)
        assert answer.code == 78, answer
        assert not (rig.gates / "ran").exists()

    @pytest.mark.parametrize(
        ("fuse", "told"),
        [
            (("--cap-add", "SYS_ADMIN"), "/dev/fuse"),
            (("--device", "/dev/fuse"), "SYS_ADMIN"),
            ((*FUSE, "--security-opt", "no-new-privileges"), "no-new-privileges"),
        ],
        ids=["device", "capability", "privileges"],
    )
    def test_what_the_engine_was_not_asked_for_is_named(
        self, rig: ContainerRig, fuse: tuple[str, ...], told: str
    ) -> None:
        answer = rig.run("touch", "/gates/ran", fuse=fuse)
        assert answer.code == 69, answer
        assert told in answer.err
        assert not (rig.gates / "ran").exists()
        # And in seconds, before anything is tried for real.
        examined = rig.run("mountkit", "doctor", rig.source, rig.target, fuse=fuse)
        assert examined.code != 0, examined
        assert told in examined.out + examined.err

    @pytest.mark.fault(36)
    def test_two_containers_on_one_prefix(self, rig: ContainerRig, bucket: Bucket) -> None:
        first = rig.begin(*rig.light("save:10", "say:saved", "wait:go", "save:20"))
        rig.await_word("saved", first)
        second = rig.run("touch", "/gates/ran")
        assert second.code == 69, second
        assert "is in use: process" in second.err
        assert not (rig.gates / "ran").exists()
        rig.say("go")
        answer = first.wait()
        assert answer.code == 0, answer
        for step in (10, 20):
            assert_proven(bucket, f"run/checkpoint-{step}", checkpoint(step))
        # It was given back.
        assert rig.run("true").code == 0
