"""Who stands in the target when the mount is made steps into it, and so does the command."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from support.installed import needs
from support.rig import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.rig import Answer, Bucket, Job, Rig

WRITE = "printf '%07000d' 0 > model.bin"
ZEROS = b"0" * 7000

USER = """
import json, os, sys
import mountkit
from mountkit.errors import MountkitError

before = os.getcwd()
told = {"error": None}
try:
    with mountkit.mount(*sys.argv[1:3], endpoint_url=sys.argv[3], backend=sys.argv[4]) as mount:
        told["inside"] = os.getcwd()
        with open("model.bin", "wb") as stream:
            stream.write(b"0" * 7000)
        if sys.argv[5:]:
            os.chdir(sys.argv[5])
except MountkitError as error:
    told["error"] = str(error)
told["after"], told["before"] = os.getcwd(), before
print(json.dumps(told))
"""


def run_from(
    rig: Rig, place: Path, source: str, line: str, *, target: str = "", options: str = ""
) -> Answer:
    """``mountkit run`` of a shell's line, by somebody who stands in ``place``."""
    return begin_from(rig, place, source, line, target=target, options=options).wait()


def begin_from(
    rig: Rig, place: Path, source: str, line: str, *, target: str = "", options: str = ""
) -> Job:
    """The same, left running."""
    words = [rig.python, "-m", "mountkit", "run", source, target or str(rig.target), *rig.how()]
    command = f"{shlex.join(words)} {options} -- sh -c {shlex.quote(line)}"
    return rig.start("sh", "-c", f"cd {shlex.quote(str(place))} && {command}")


@pytest.mark.fault(43)
@pytest.mark.parametrize("target", ["", "."])
def test_a_command_started_in_the_target_stands_in_the_mount(
    rig: Rig, bucket: Bucket, target: str
) -> None:
    rig.target.mkdir()
    line = f'{WRITE}; echo "$PWD"; pwd -P; [ -f "{rig.target}/model.bin" ]'
    answer = run_from(rig, rig.target, f"s3://{bucket.name}/run", line, target=target)
    assert answer.code == 0, answer
    assert answer.out.splitlines() == [str(rig.target)] * 2
    assert bucket.everything("run") == {"model.bin": ZEROS}
    assert list(rig.target.iterdir()) == []


@pytest.mark.fault(43)
def test_so_does_one_that_came_there_by_a_link(rig: Rig, bucket: Bucket) -> None:
    rig.target.mkdir()
    link = rig.work / "link"
    link.symlink_to(rig.target)
    line = f'{WRITE}; echo "$PWD"; pwd -P'
    answer = run_from(rig, link, f"s3://{bucket.name}/run", line, target=str(link))
    assert answer.code == 0, answer
    assert answer.out.splitlines() == [str(link), str(rig.target)]
    assert bucket.everything("run") == {"model.bin": ZEROS}


@pytest.mark.fault(9, 43)
@pytest.mark.parametrize("there", [True, False])
def test_one_in_a_folder_of_a_dead_mount_stands_in_the_same_folder_of_the_new_one(
    rig: Rig, bucket: Bucket, there: bool
) -> None:
    source, place = f"s3://{bucket.name}/run", rig.target / "one two" / "three"
    bucket.put("run/one two/three/old.bin", b"old")
    assert rig.mount(source).code == 0
    words = ["run", source, rig.target, *rig.how(), "--", "sh", "-c", f"{WRITE}; pwd -P"]
    run = rig.standing(place, *words)
    rig.kill(rig.supervisor())
    rig.kill(rig.daemon())
    if not there:
        bucket.remove("run/one two/three/old.bin")
    answer = run()
    assert answer.code == 0, answer
    assert answer.out.strip() == str(place)
    found = bucket.everything("run")
    assert found.pop("one two/three/old.bin", b"old") == b"old"
    assert found == {"one two/three/model.bin": ZEROS}


@pytest.mark.fault(9, 43)
def test_where_that_is_a_file_by_now_nothing_is_run(rig: Rig, bucket: Bucket) -> None:
    source, place = f"s3://{bucket.name}/run", rig.target / "one"
    bucket.put("run/one/old.bin", b"old")
    assert rig.mount(source).code == 0
    ran = rig.gates / "ran"
    run = rig.standing(place, "run", source, rig.target, *rig.how(), "--", "touch", ran)
    rig.kill(rig.supervisor())
    rig.kill(rig.daemon())
    bucket.remove("run/one/old.bin")
    bucket.put("run/one", b"a file")
    answer = run()
    assert answer.code == 69, answer
    assert f"{place} lies below the mount, and cannot be made in it" in answer.err
    assert not ran.exists()
    assert rig.mounts() == []


def test_a_target_that_is_not_empty_is_refused_before_anything_runs(
    rig: Rig, bucket: Bucket
) -> None:
    place = rig.target / "sub"
    place.mkdir(parents=True)
    answer = run_from(rig, place, f"s3://{bucket.name}/run", f"touch {rig.gates}/ran")
    assert answer.code == 69, answer
    assert "is not empty (it holds sub)" in answer.err
    assert not (rig.gates / "ran").exists()


@pytest.mark.fault(40, 43)
@pytest.mark.parametrize("then", ["", "/"])
def test_the_api_steps_in_and_out_again(rig: Rig, bucket: Bucket, then: str) -> None:
    rig.target.mkdir()
    script = rig.work / "user.py"
    script.write_text(USER)
    place = [f"s3://{bucket.name}/run", ".", rig.server.endpoint_url, rig.backend]
    words = shlex.join([rig.python, str(script), *place, *filter(None, [then])])
    answer = rig.start("sh", "-c", f"cd '{rig.target}' && exec {words}").wait()
    assert answer.code == 0, answer
    told: Mapping[str, str] = answer.json
    assert told["error"] is None, answer
    assert told["before"] == told["inside"] == str(rig.target)
    # It goes back to where it was, unless the program has gone elsewhere itself.
    assert told["after"] == (then or str(rig.target))
    assert bucket.everything("run") == {"model.bin": ZEROS}
    assert rig.mounts() == []


@pytest.mark.fault(43)
def test_a_shell_below_a_mount_in_the_background_is_told(rig: Rig, bucket: Bucket) -> None:
    rig.target.mkdir()
    source = f"s3://{bucket.name}/run"
    words = shlex.join([rig.python, "-m", "mountkit", "mount", source, ".", *rig.how()])
    line = f'cd "{rig.target}" && {words} && cd "$PWD" && {WRITE}'
    answer = rig.start("sh", "-c", line).wait()
    assert answer.code == 0, answer
    [told] = [line for line in answer.err.splitlines() if "this shell stands" in line]
    assert 'cd "$PWD"' in told
    assert rig.umount().code == 0
    assert bucket.everything("run") == {"model.bin": ZEROS}
    elsewhere = rig.mount(source)
    assert "this shell stands" not in elsewhere.err
    assert rig.umount().code == 0


def training(rig: Rig) -> tuple[Path, list[str]]:
    reference = rig.work / "reference"
    reference.mkdir()
    places = [".", str(rig.gates), str(reference), str(rig.work / "report.json")]
    steps = ["--steps", "4", "--save-steps", "2"]
    return reference, [rig.python, str(SCRIPTS / "train.py"), *places, *steps]


@pytest.mark.fault(43)
def test_a_training_started_in_the_target_saves_into_the_bucket(rig: Rig, bucket: Bucket) -> None:
    needs("torch")
    rig.target.mkdir()
    reference, words = training(rig)
    answer = run_from(rig, rig.target, f"s3://{bucket.name}/run", shlex.join(words))
    assert answer.code == 0, answer
    for step in (2, 4):
        top = reference / f"checkpoint-{step}"
        written = {path.name: path.read_bytes() for path in top.iterdir()}
        assert bucket.files(f"run/checkpoint-{step}") == written
        assert bucket.manifest(f"run/checkpoint-{step}") is not None


@pytest.mark.fault(6, 43)
def test_it_goes_on_in_the_mount_that_comes_after_a_dead_one(rig: Rig, bucket: Bucket) -> None:
    """Its working directory stays in the mount that died, where no relative path leads anywhere."""
    needs("torch")
    rig.target.mkdir()
    _, words = training(rig)
    words += ["--pause-at", "1", "--pause-at", "3"]
    source = f"s3://{bucket.name}/run"
    job = begin_from(rig, rig.target, source, shlex.join(words))
    for count, step in enumerate((1, 3), 1):
        rig.await_word(f"at-{step}", job)
        rig.kill(rig.daemon())
        rig.await_remount(count)
        rig.say(f"go-at-{step}")
    answer = job.wait()
    assert answer.code == 0, answer
    for step in (2, 4):
        assert bucket.manifest(f"run/checkpoint-{step}") is not None


@pytest.mark.cached  # What refuses it does not depend on the backend.
@pytest.mark.fault(43)
def test_the_callback_refuses_a_training_that_stands_below_the_mount(
    rig: Rig, bucket: Bucket
) -> None:
    needs("torch")
    rig.target.mkdir()
    source = f"s3://{bucket.name}/run"
    mount = shlex.join([rig.python, "-m", "mountkit", "mount", source, ".", *rig.how()])
    _, words = training(rig)
    line = f'cd "{rig.target}" && {mount} && exec {shlex.join(words)}'
    answer = rig.start("sh", "-c", line).wait()
    assert answer.code == 1, answer
    assert "is the one below the mount" in answer.err
    assert json.loads((rig.work / "report.json").read_text())["saved"] == []
    assert rig.umount().code == 0
    assert bucket.everything("run") == {}
