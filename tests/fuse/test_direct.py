"""A run that saves into the directory that is its store: no daemon, no mount, the same promise."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from light import checkpoint

from mountkit.names import LEASE_NAME, TRAINER_STATE
from mountkit.state import baseline
from mountkit.store.remote import rcd
from support import every_store, preloaded
from support.assertions import crc64
from support.every_store import OfTheMachine, Place, StoreRig, leaving_nothing
from support.installed import needs
from support.rig import MANIFEST, SCRIPTS, eventually
from support.runs import kill_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.rig import Answer, Job

needs("torch", "transformers")

VICTIM = "model.safetensors"
# Written as Trainer does, by a library that says nothing of an error when it closes a file.
SAVE = """
import sys, os, resource
import numpy, safetensors.numpy
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
content = {"w": numpy.arange(200_000, dtype="float32")}
safetensors.numpy.save_file(content, f"{folder}/model.safetensors")
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if "killed" in sys.argv else signal.SIG_IGN)
    try:
        safetensors.numpy.save_file(content, f"{folder}/more.safetensors")
    except OSError as error:
        print("passed over:", error)
"""


class DirectRig(StoreRig):
    """A rig whose target is the place itself."""

    place: Any = None

    @property
    def target(self) -> Path:
        assert isinstance(self.kind, OfTheMachine)
        return self.kind.mounted / self.place.prefix / "run"

    def go(self, *actions: str, **env: str) -> Answer:
        return self.run(self.place.url, self.light(*actions), **env)


@pytest.fixture(scope="module")
def kind(fuse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfTheMachine]:
    with every_store.KINDS["file"](tmp_path_factory.mktemp("direct")) as served:
        assert isinstance(served, OfTheMachine)
        yield served
        rcd.end_all()


@pytest.fixture
def rig(kind: OfTheMachine) -> Iterator[DirectRig]:
    rig = DirectRig.over(kind)
    assert isinstance(rig, DirectRig)
    rig.backend, rig.place = "", Place(kind)
    # It is made by the first look at its URL.
    assert rig.place.url
    with leaving_nothing(rig):
        yield rig


@pytest.fixture
def place(rig: DirectRig) -> Place:
    found = rig.place
    assert isinstance(found, Place)
    return found


def saving(rig: DirectRig, folder: Path, *how: str) -> list[str]:
    """The command that runs SAVE."""
    program = rig.work / "save.py"
    program.write_text(SAVE)
    return [rig.python, str(program), str(folder), *how]


def torn_from(rig: DirectRig, *actions: str) -> Job:
    """A run that stands still after these actions."""
    # Each look at a disk that does not answer takes its time.
    job = rig.begin(rig.place.url, rig.light(*actions, "say:there", "wait:go"), limit=240)
    rig.await_word("there", job)
    return job


def test_what_was_saved_is_proven_where_it_is(rig: DirectRig, place: Place) -> None:
    rig.target.mkdir()
    (rig.target / "notes.txt").write_text("of somebody's")
    answer = rig.go("save:10", "model:final", "save:20")
    assert answer.code == 0, answer
    for step in (10, 20):
        place.assert_proven(f"checkpoint-{step}", checkpoint(step))
    # What was there before is nobody's concern.
    assert f"{2 * len(checkpoint(10)) + 1} files" in answer.err
    assert "nothing is mounted" in answer.err
    assert rig.mounts() == []
    assert {path.name for path in rig.target.iterdir()} == {
        "notes.txt", "checkpoint-10", "checkpoint-20", "final", LEASE_NAME,
    }  # fmt: skip


@pytest.mark.fault(32)
def test_one_byte_altered_and_one_cut_off_are_named(rig: DirectRig, place: Place) -> None:
    assert rig.go("save:10", "save:20", "save:30").code == 0
    place.flip(f"checkpoint-30/{VICTIM}")
    place.truncate("checkpoint-20/optimizer.pt")
    for step, name, problem in ((30, VICTIM, "altered"), (20, "optimizer.pt", "size")):
        told = rig.ask("verify", f"{place.url}/checkpoint-{step}", "--format", "json")
        assert told.code == 74, told
        bad = [(file["path"], file["problem"]) for file in told.json["files"] if file["problem"]]
        assert bad == [(name, problem)]
    found = rig.ask("latest", place.url)
    assert (found.code, found.out) == (0, f"{place.url}/checkpoint-10\n"), found


@pytest.mark.fault(7, 11, 22)
def test_what_a_killed_run_has_left_is_the_next_ones_to_prove(rig: DirectRig, place: Place) -> None:
    job = torn_from(rig, "save:10", "torn:20")
    kill_all(rig, job)
    assert place.manifest("checkpoint-10") is None
    answer = rig.go("exit:0")
    assert answer.code == 0, answer
    assert "checkpoint-20 is not a finished checkpoint" in answer.err
    place.assert_proven("checkpoint-10", checkpoint(10))
    assert place.manifest("checkpoint-20") is None
    # It came to its end; the next one has nothing of it to prove.
    again = rig.go("save:30")
    assert again.code == 0, again
    assert "checkpoint-20" not in again.err
    assert f"{len(checkpoint(30))} files" in again.err


@pytest.mark.fault(4)
def test_what_a_library_writes_is_compared_with_what_it_was_given(
    rig: DirectRig, place: Place
) -> None:
    words = saving(rig, rig.target / "checkpoint-10")
    line = 'echo "{\\"global_step\\": 10}" > trainer_state.json'
    shell = f'"$@" && cd {rig.target}/checkpoint-10 && {line}'
    answer = rig.run(place.url, ["sh", "-c", shell, "sh", *words])
    assert answer.code == 0, answer
    manifest = place.manifest("checkpoint-10")
    found = {file["path"]: (file["reference"], file["crc64nvme"]) for file in manifest["files"]}
    data = place.files("checkpoint-10")
    assert found == {
        VICTIM: ("write", crc64(data[VICTIM])),
        "trainer_state.json": ("mount", crc64(data["trainer_state.json"])),
    }


@pytest.mark.fault(3, 4)
def test_a_write_that_failed_and_was_passed_over_is_named_until_it_is_mended(
    rig: DirectRig, place: Place
) -> None:
    folder = rig.target / "checkpoint-10"
    shell = f'"$@" && echo "{{\\"global_step\\": 10}}" > {folder}/trainer_state.json'
    words = ["sh", "-c", shell, "sh", *saving(rig, folder, "full")]
    answer = rig.run(place.url, words)
    assert "passed over" in answer.out, answer
    # The next run reads the same file, and nothing but its writer's word tells that it is torn.
    for told in (answer, rig.go("exit:0")):
        assert told.code == 75, told
        assert "checkpoint-10/more.safetensors" in told.err
        assert place.manifest("checkpoint-10") is None
    (folder / "more.safetensors").unlink()
    mended = rig.go("exit:0")
    assert mended.code == 0, mended


@pytest.mark.fault(7, 11)
def test_a_save_in_which_a_run_was_killed_is_told_of_and_holds_up_no_later_run(
    rig: DirectRig, place: Place
) -> None:
    folder = rig.target / "checkpoint-10"
    cut = rig.run(place.url, saving(rig, folder, "full", "killed"))
    assert cut.code not in {0, 75}, cut
    assert "checkpoint-10/more.safetensors" in cut.err
    later = rig.go("exit:0")
    assert later.code == 0, later
    assert "checkpoint-10 is not a finished checkpoint" in later.err
    # What looks whole is not.
    line = f'echo "{{\\"global_step\\": 10}}" > {folder}/trainer_state.json'
    again = rig.run(place.url, ["sh", "-c", line])
    assert again.code == 75, again
    assert "checkpoint-10/more.safetensors" in again.err
    assert place.manifest("checkpoint-10") is None


@pytest.mark.fault(7, 11)
def test_a_second_one_is_told_of_like_the_first_and_what_another_program_writes_is_looked_at(
    rig: DirectRig, place: Place
) -> None:
    folder, victim = rig.target / "checkpoint-10", "checkpoint-10/more.safetensors"
    killed = saving(rig, folder, "full", "killed")
    # As with the whole machine: no drain of theirs names anything.
    line = '"$@"; kill -9 $PPID; read _'
    for _ in range(2):
        rig.run(place.url, ["sh", "-c", line, "sh", *killed])
        told = rig.go("exit:0")
        assert told.code == 75, told
        assert victim in told.err
    line = 'echo 1 > "$0/new" && mv "$0/new" "$0/more.safetensors" && echo "$1" > "$0/$2"'
    words = ["sh", "-c", line, str(folder), '{"global_step": 10}', TRAINER_STATE]
    answer = rig.run(place.url, words)
    assert answer.code == 0, answer
    # Of two runs with a loss between them no checkpoint is made; but each file is looked at.
    assert "checkpoint-10 is not a finished checkpoint" in answer.err
    assert "3 files" in answer.err


@pytest.mark.fault(7, 13)
def test_where_another_directory_is_in_its_place_one_run_says_so_and_the_next_goes_on(
    rig: DirectRig, place: Place
) -> None:
    kill_all(rig, torn_from(rig, "save:10"))
    rig.target.rename(rig.target.with_name("old"))
    rig.target.mkdir()
    told = rig.go("save:20")
    assert told.code == 69, told
    assert "is another directory than the one it was" in told.err
    answer = rig.go("save:20")
    assert answer.code == 0, answer
    place.assert_proven("checkpoint-20", checkpoint(20))


@pytest.mark.fault(35)
def test_what_is_dated_before_its_run_is_proven_all_the_same(rig: DirectRig, place: Place) -> None:
    job = rig.begin(place.url, rig.light("say:there", "wait:go", "save:20"))
    rig.await_word("there", job)
    # As if the clock of the disk had been ahead, and were set now.
    [noted] = rig.state.glob(f"*/{baseline.BASELINE_NAME}")
    content = json.loads(noted.read_text())
    noted.write_text(json.dumps({**content, "at": 0.0, "ahead": content["ahead"] + 3600}))
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    place.assert_proven("checkpoint-20", checkpoint(20))


def test_a_file_is_added_to_a_proven_checkpoint(rig: DirectRig, place: Place) -> None:
    assert rig.go("save:10").code == 0
    added = rig.run(place.url, ["sh", "-c", f"echo 1 > {rig.target}/checkpoint-10/eval.json"])
    assert added.code == 0, added
    place.assert_proven("checkpoint-10", {**checkpoint(10), "eval.json": b"1\n"})
    place.flip(f"checkpoint-10/{VICTIM}")
    # What is there of the rest is held against what was proven, and not blessed as it is.
    again = rig.run(place.url, ["sh", "-c", f"echo 2 > {rig.target}/checkpoint-10/more.json"])
    assert again.code == 75, again
    assert f"checkpoint-10/{VICTIM}" in again.err


@pytest.mark.fault(36)
def test_the_command_ends_once_another_writer_has_the_run(rig: DirectRig, place: Place) -> None:
    job = torn_from(rig, "save:10")
    lease = rig.target / LEASE_NAME
    content = json.loads(lease.read_text())
    number, since = content["epochs"][-1]
    content["epoch"], content["epochs"] = number + 1, [*content["epochs"], [number + 1, since]]
    content["holder"].update(host="elsewhere", place="another boot", started=1)
    lease.write_text(json.dumps(content))
    answer = job.wait()
    assert answer.code == 75, answer
    assert "elsewhere" in answer.err


@pytest.mark.fault(4, 5, 34)
def test_while_the_disk_does_not_answer_a_run_ends_with_75(rig: DirectRig, place: Place) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    job = torn_from(rig, "save:10")
    rig.kind.stop()
    try:
        rig.say("go")
        answer = job.wait()
        assert answer.code == 75, answer
        refused = rig.run(place.url, rig.light("say:ran"), limit=60)
        assert refused.code == 69, refused
        assert not (rig.gates / "ran").exists()
    finally:
        rig.kind.start()
    del rig.settings["MOUNTKIT_STALL_TIMEOUT"]
    again = rig.go("exit:0")
    assert again.code == 0, again
    place.assert_proven("checkpoint-10", checkpoint(10))


@pytest.mark.fault(9, 24)
@pytest.mark.parametrize("covered", [False, True], ids=["unmounted", "covered"])
def test_a_disk_that_was_gone_for_a_while_leaves_nothing_to_be_sure_of(
    rig: DirectRig, tmp_path: Path, covered: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount and unmount a disk")
    disk, behind, other = rig.work / "disk", tmp_path / "behind", tmp_path / "other"
    for folder in (disk, behind, other):
        folder.mkdir()
    bind = ["mount", "--bind", str(behind), str(disk)]
    uncover = ["umount", "--lazy", str(disk)]
    away, back = (uncover, bind)
    if covered:
        away, back = ["mount", "--bind", str(other), str(disk)], uncover
    subprocess.run(bind, check=True)
    try:
        target = disk / "run"
        rig.settings["MOUNTKIT_REMOUNT_ATTEMPTS"] = "1"
        actions = ["save:10", "say:there", "wait:go", "save:20"]
        job = rig.begin(f"file://{target}", rig.light(*actions, target=target), target=target)
        rig.await_word("there", job)
        subprocess.run(away, check=True)
        record = rig.record(target)
        assert record is not None
        private = rig.state / record.spec.id
        eventually(lambda: (found := baseline.read(private)) and found.lost, "seen to be gone")
        rig.say("go")
        eventually((target / "checkpoint-20" / "trainer_state.json").exists, "saved")
        subprocess.run(back, check=True)
        answer = job.wait()
        assert answer.code == 75, answer
        assert "was not mounted" in answer.err
        # The next run proves what is left of it.
        again = rig.run(f"file://{target}", rig.light("save:30", target=target), target=target)
        assert again.code == 0, again
        for step in (10, 30):
            assert (behind / "run" / f"checkpoint-{step}" / MANIFEST).exists()
        assert not (behind / "run" / "checkpoint-20").exists()
    finally:
        subprocess.run(uncover, check=True)


def test_it_is_kept_in_the_background_and_ended(rig: DirectRig, place: Place) -> None:
    made = rig.mount(place.url)
    assert made.code == 0, made
    told = rig.mountkit("status", "--format", "json")
    (mount,) = told.json["mounts"]
    assert (mount["state"], mount["backend"]) == ("serving", "direct")
    rig.script("save:10")
    examined = rig.mountkit("doctor", place.url, rig.target, "--format", "json")
    assert examined.code == 0, examined
    assert examined.json["backend"] == "direct"
    twice = rig.go("say:ran")
    assert twice.code == 69, twice
    ended = rig.umount()
    assert ended.code == 0, ended
    place.assert_proven("checkpoint-10", checkpoint(10))
    assert rig.record() is None
    assert not (rig.gates / "ran").exists()


def test_what_makes_no_sense_is_refused(rig: DirectRig, place: Place) -> None:
    for options in (["--node", "1"], ["--option", "transfers=2"], ["--backend", "rclone"]):
        answer = rig.run(place.url, rig.light("say:ran"), *options)
        assert answer.code == 2, answer
    elsewhere = rig.mountkit("mount", place.url, rig.work / "there", "--backend", "direct")
    assert elsewhere.code == 2, elsewhere
    assert "mounts nothing" in elsewhere.err
    assert not (rig.gates / "ran").exists()


@pytest.mark.fault(4, 20, 22, 23)
def test_a_training_is_killed_and_goes_on(rig: DirectRig, place: Place) -> None:
    report = rig.work / "report.json"
    words = [str(rig.target), str(rig.gates), str(report), "--steps", "7", "--save-steps", "2"]

    def script(*options: str) -> list[str]:
        return preloaded.command(rig.python, SCRIPTS / "plain.py", [*words, *options])

    job = rig.begin(place.url, script("--pause-at", "5"), "--resume")
    rig.await_word("at-5", job)
    eventually(lambda: place.manifest("checkpoint-4") is not None, "proven while it trains")
    kill_all(rig, job)
    answer = rig.run(place.url, script("--pause-at", "-1"), "--resume")
    assert answer.code == 0, answer
    assert f"the training goes on from {rig.target}/checkpoint-4" in answer.err
    assert json.loads(report.read_text())["began_at"] == [4]
    manifest = place.manifest("checkpoint-6")
    taken = {file["path"]: file["reference"] for file in manifest["files"]}
    assert (taken[VICTIM], taken["optimizer.pt"]) == ("write", "write")
