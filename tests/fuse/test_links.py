"""Symbolic and hard links in a mount, as the programs that train make them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from light import trainer_state

from support import preloaded, versity
from support.installed import needs
from support.rig import MANIFEST, SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.rig import Answer, Bucket, Rig, Server

BEGINNING = """
import json, os, sys, time
from pathlib import Path
top, gates = map(Path, sys.argv[1:3])
os.chdir(top)

def write(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as stream:
        stream.write(text)

def point(target, link):
    os.symlink(target, ".draft")
    os.replace(".draft", link)

def tree():
    found = {}
    for folder, folders, names in os.walk("."):
        for path in (os.path.join(folder, name) for name in folders + names):
            if os.path.islink(path):
                found[path[2:]] = "-> " + os.readlink(path)
            elif os.path.isfile(path) and path != "./mountkit-lease.json":
                found[path[2:]] = open(path).read()
    return found
"""
LINKED = """
write("step-1/model.bin", "one")
write("step-2/model.bin", "two")
os.symlink("step-1", "latest")
os.symlink("nowhere", "dangling")
os.symlink("/etc/hostname", "out")
os.symlink(str(top / "step-1"), "absolute")
os.symlink("../step-2/model.bin", "step-1/next one")
os.symlink("gone-soon", "gone")
os.symlink("lénk", "ünï-日本語")
os.mkdir("old")
os.symlink("../step-2", "old/k")
point("step-2", "latest")
os.unlink("gone")
os.rename("old", "new")
write("latest/added.bin", "through the link")
before = tree()
(gates / "linked").touch()
while not (gates / "go").exists():
    time.sleep(0.02)
os.chdir(top)
assert tree() == before, (tree(), before)
point("step-1", "latest")
write("latest/last.bin", "after")
"""
TREE = "print(json.dumps(tree()))"


@dataclass(frozen=True)
class Moto:
    """moto's server, of which nothing is on a disk."""

    endpoint_url: str
    data: Path
    access_key: str = "testing"
    secret_key: str = "testing"


@pytest.fixture(params=["rclone", "versitygw", "moto"])
def any_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each store that there is, behind rclone."""
    if request.param == "rclone":
        yield request.getfixturevalue("server")
    elif request.param == "versitygw":
        with versity.Versity(tmp_path_factory.mktemp("versity"), versity.program()) as server:
            yield server
    else:
        module = pytest.importorskip("moto.server", reason="moto is not installed")
        server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield Moto(f"http://{host}:{port}", tmp_path_factory.mktemp("moto"))  # type: ignore[misc]
        server.stop()


def script(rig: Rig, text: str, target: Path | None = None) -> list[str]:
    return [rig.python, "-c", BEGINNING + text, str(target or rig.target), str(rig.gates)]


def objects(bucket: Bucket) -> dict[str, str]:
    """What the store gives, whatever it keeps on its disk."""
    client = bucket.client()
    found = {}
    for item in client.list_objects_v2(Bucket=bucket.name).get("Contents", ()):
        answer = client.get_object(Bucket=bucket.name, Key=item["Key"])
        found[item["Key"]] = answer["Body"].read().decode()
    own = ("/", "mountkit-lease.json")
    return {key: text for key, text in found.items() if not key.endswith(own)}


@pytest.mark.cached
@pytest.mark.fault(6, 47)
def test_links_are_in_the_bucket_and_come_back_after_a_kill_and_on_another_mount(
    make_rig: Callable[[Server], Rig], any_store: Server
) -> None:
    rig = make_rig(any_store)
    bucket = rig.bucket()
    job = rig.begin(f"s3://{bucket.name}", script(rig, LINKED), *rig.late)
    rig.await_word("linked", job)
    rig.kill(rig.daemon())
    rig.await_remount()
    rig.say("go")
    answer = job.wait()
    assert answer.code == 0, answer
    files = {
        "step-1/model.bin": "one",
        "step-2/model.bin": "two",
        "step-2/added.bin": "through the link",
        "step-1/last.bin": "after",
    }
    links = {
        "latest": "step-1",
        "dangling": "nowhere",
        "out": "/etc/hostname",
        "absolute": f"{rig.target}/step-1",
        "step-1/next one": "../step-2/model.bin",
        "ünï-日本語": "lénk",
        "new/k": "../step-2",
    }
    assert objects(bucket) == files | {f"{path}.rclonelink": to for path, to in links.items()}
    assert "out is a link that leads out of the mount, to /etc/hostname" in answer.err
    assert answer.err.count("leads out of the mount") == 1
    assert "not proven" not in answer.err

    rig.settings["MOUNTKIT_CACHE_DIR"] = str(rig.work / "another cache")
    other = rig.work / "another target"
    answer = rig.run(f"s3://{bucket.name}", script(rig, TREE, other), target=other)
    assert answer.code == 0, answer
    assert json.loads(answer.out) == files | {path: f"-> {to}" for path, to in links.items()}


def save(step: int, *links: tuple[str, str]) -> str:
    """A script that saves a checkpoint with these links, its state last."""
    name = f"checkpoint-{step}"
    state = trainer_state(step).decode()
    made = [f"write('{name}/{path}', '{path}{step}')" for path in ("model.bin", "sub/a.bin")]
    made += [f"os.symlink({to!r}, '{name}/{path}')" for to, path in links]
    return "\n".join([*made, f"write('{name}/trainer_state.json', {state!r})", ""])


@pytest.mark.cached
@pytest.mark.fault(32, 47)
def test_a_link_in_a_checkpoint_is_proven_and_verified_as_any_file(
    rig: Rig, bucket: Bucket
) -> None:
    source = f"s3://{bucket.name}/run"
    links = [("model.bin", "weights"), ("sub", "folder"), ("../model.bin", "sub/up")]
    answer = rig.run(source, script(rig, save(5) + save(10, *links)))
    assert answer.code == 0, answer
    manifest = bucket.manifest("run/checkpoint-10")
    assert manifest is not None
    listed = {entry["path"]: entry["size"] for entry in manifest["files"]}
    assert {path: listed.get(f"{path}.rclonelink") for _, path in links} == {
        path: len(to) for to, path in links
    }
    for level in ("attest", "readback"):
        verified = rig.ask("verify", f"{source}/checkpoint-10", "--level", level)
        assert verified.code == 0, verified
    assert rig.ask("latest", source).out.strip() == f"{source}/checkpoint-10"
    bucket.put("run/checkpoint-10/weights.rclonelink", b"other.bin")
    verified = rig.ask("verify", f"{source}/checkpoint-10")
    assert verified.code == 74, verified
    assert "weights.rclonelink" in verified.err
    assert rig.ask("latest", source).out.strip() == f"{source}/checkpoint-5"


@pytest.mark.cached
@pytest.mark.fault(47)
def test_a_checkpoint_with_a_link_that_leads_out_of_it_is_not_proven(
    rig: Rig, bucket: Bucket
) -> None:
    inside = str(rig.target / "checkpoint-3" / "model.bin")
    saves = [
        save(1, ("/etc/hostname", "blob")),
        save(2, ("../checkpoint-1/model.bin", "older")),
        save(3, (inside, "whole")),
        save(4, ("sub/../../checkpoint-1", "round")),
        save(5, ("nothing", "dangling"), ("./model.bin", "near")),
    ]
    answer = rig.run(f"s3://{bucket.name}/run", script(rig, "".join(saves)))
    assert answer.code == 75, answer
    for path in ("1/blob", "2/older", "3/whole", "4/round"):
        assert f"not proven: checkpoint-{path}.rclonelink" in answer.err, path
    assert answer.err.count("leads out of the checkpoint") >= 4
    proven = {path for path in bucket.everything("run") if path.endswith(MANIFEST)}
    assert proven == {f"checkpoint-5/{MANIFEST}"}


COLLIDING = """
write("one", "a file")
os.symlink("nowhere", "draft")
os.replace("draft", "one")
write("draft", "a file again")
os.symlink("nowhere", "two")
os.replace("draft", "two")
write("three.rclonelink", "text")
os.symlink("nowhere", "fine")
os.unlink("fine")
write("fine", "a file")
"""


@pytest.mark.cached
@pytest.mark.fault(47)
def test_what_a_later_mount_would_show_as_something_else_is_named(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    answer = rig.run(source, script(rig, COLLIDING))
    assert answer.code == 75, answer
    for path in ("one and one.rclonelink", "two and two.rclonelink", "three.rclonelink"):
        assert f"not proven: {path} " in answer.err, path
    assert "not proven: fine" not in answer.err
    bucket.remove("run/one")
    bucket.remove("run/two.rclonelink")
    answer = rig.run(source, script(rig, f"os.unlink('three')\n{TREE}"))
    assert answer.code == 0, answer
    shown = {"one": "-> nowhere", "two": "a file again", "fine": "a file"}
    assert json.loads(answer.out) == shown


TAKEN = """
os.symlink("step-1", "latest")
os.symlink("step-1", "removed")
os.unlink("removed")
found = [path for path in Path(sys.argv[3]).rglob("latest*") if path.is_file()]
assert len(found) == 2, found
for path in found:
    path.unlink()
"""


@pytest.mark.cached
@pytest.mark.fault(47)
def test_a_link_that_somebody_takes_from_the_cache_is_named(rig: Rig, bucket: Bucket) -> None:
    command = [*script(rig, TAKEN), str(rig.cache)]
    answer = rig.run(f"s3://{bucket.name}/run", command, *rig.late)
    assert answer.code == 75, answer
    assert "not proven: latest.rclonelink" in answer.err
    assert "removed" not in answer.err


REFUSED = """
import errno
write("model.bin", "weights")
for make in [os.link, *([] if sys.argv[3] == "rclone" else [os.symlink])]:
    try:
        make("model.bin", "copy.bin")
    except OSError as error:
        assert error.errno == errno.EPERM, error
    else:
        sys.exit("it was made")
write("copy.bin", "weights")
"""


@pytest.mark.fault(47)
def test_a_link_that_cannot_be_is_refused_at_once_and_nothing_else_comes_of_it(
    rig: Rig, bucket: Bucket
) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", [*script(rig, REFUSED), rig.backend])
    assert answer.code == 0, answer
    assert bucket.everything("run") == {"model.bin": b"weights", "copy.bin": b"weights"}
    assert "again" not in answer.err


class TestTraining:
    """Links that a Trainer's save makes."""

    def train(self, rig: Rig, bucket: Bucket, what: str) -> Answer:
        needs("transformers")
        words = [str(rig.target), what]
        command = preloaded.command(rig.python, SCRIPTS / "linking.py", words)
        return rig.run(f"s3://{bucket.name}", command)

    @pytest.mark.cached
    @pytest.mark.fault(47)
    def test_it_saves_and_resumes_through_links(self, rig: Rig, bucket: Bucket) -> None:
        answer = self.train(rig, bucket, "kept")
        assert answer.code == 0, answer
        assert "again" not in answer.err
        for step in (2, 4, 6):
            manifest: Any = bucket.manifest(f"run-3/checkpoint-{step}")
            paths = [entry["path"] for entry in manifest["files"]]
            assert "weights.rclonelink" in paths
            assert "model.safetensors" in paths
        files = bucket.files()
        assert files["current.rclonelink"] == b"run-3"
        assert files["run-3/latest.rclonelink"] == b"checkpoint-6"
        assert not [path for path in files if path.startswith("current/")]

    @pytest.mark.fault(47)
    def test_a_hard_link_ends_the_save_with_its_name_and_is_not_tried_again(
        self, rig: Rig, bucket: Bucket
    ) -> None:
        self.refused(self.train(rig, bucket, "link"), "make a hard link")

    @pytest.mark.uncached
    @pytest.mark.fault(47)
    def test_so_does_a_symbolic_link_where_there_is_none(self, rig: Rig, bucket: Bucket) -> None:
        self.refused(self.train(rig, bucket, "symlink"), "make a symbolic link")

    def refused(self, answer: Answer, what: str) -> None:
        assert answer.code == 1, answer
        assert answer.out.count("saving") == 1, answer
        errors = [line for line in answer.err.splitlines() if line.startswith("PermissionError")]
        assert what in errors[-1], answer
        assert "is well" in errors[-1]
        assert "model.safetensors" in errors[-1]
        assert "saved again" not in answer.err
