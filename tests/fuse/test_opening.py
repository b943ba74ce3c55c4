"""What a mount that is being made sees, and what becomes of one that is cut short meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from support.assertions import assert_proven
from support.rig import SCRIPTS

if TYPE_CHECKING:
    from pathlib import Path

    from support.proxy import Request
    from support.rig import Answer, Bucket, Rig


@pytest.mark.fault(36)
def test_nobody_changes_what_a_run_that_begins_has_just_seen(rig: Rig, bucket: Bucket) -> None:
    proxy = rig.proxy()
    source = f"s3://{bucket.name}/run"
    tried, looking, go = (threading.Event() for _ in range(3))

    def hold(request: Request) -> None:
        if request.method == "DELETE":
            tried.set()
        elif tried.is_set() and not looking.is_set():
            # The first request for what is in the store, once it is known to be well.
            looking.set()
            go.wait(60)

    proxy.rule = hold
    first = rig.begin(source, rig.light("save:10"), endpoint=proxy.url)
    assert looking.wait(60)
    second = rig.run(source, rig.light("save:20"), endpoint=proxy.url)
    go.set()
    answer = first.wait()
    assert second.code == 69, second
    assert "by another process" in second.err
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert bucket.everything("run/checkpoint-20") == {}


def interrupted(rig: Rig, function: str, name: str, *command: str | Path) -> Answer:
    """A command that gets a signal just as a function of mountkit returns."""
    script = SCRIPTS / "interrupted.py"
    return rig.start(rig.python, script, function, name, *command).wait()


def assert_nothing_is_left(rig: Rig, source: str) -> None:
    """Neither a mount nor a daemon, and the place can be used by the next run."""
    assert rig.mounts() == []
    assert rig.left() == []
    assert rig.record() is None
    again = rig.run(source, rig.light("save:10"))
    assert again.code == 0, again


@pytest.mark.fault(5, 40)
@pytest.mark.parametrize("function", ["daemon made", "mounted", "opened"])
def test_a_signal_while_the_mount_changes_hands_leaves_nothing(
    rig: Rig, bucket: Bucket, function: str
) -> None:
    source = f"s3://{bucket.name}/run"
    words = [source, str(rig.target), *rig.how(), "--", *rig.light("say:ran")]
    answer = interrupted(rig, function, "SIGTERM", "run", *words)
    assert answer.code == 128 + 15, answer
    assert not (rig.gates / "ran").exists()
    assert_nothing_is_left(rig, source)


@pytest.mark.cached
@pytest.mark.fault(5, 40)
@pytest.mark.parametrize("function", ["mounted", "opened"])
def test_nor_does_an_interrupt_of_the_python_interface(
    rig: Rig, bucket: Bucket, function: str
) -> None:
    source = f"s3://{bucket.name}/run"
    how = [source, rig.target, rig.server.endpoint_url, rig.backend]
    answer = interrupted(rig, function, "SIGINT", "api", *how)
    assert answer.code == 128 + 2, answer
    assert bucket.everything("run") == {}, "the body was entered"
    assert_nothing_is_left(rig, source)


@pytest.mark.cached
@pytest.mark.fault(5, 40)
def test_nor_does_one_of_the_doctor(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    answer = interrupted(rig, "opened", "SIGINT", "doctor", source, rig.target, *rig.how())
    assert answer.code not in {0, 1}, answer
    assert_nothing_is_left(rig, source)
