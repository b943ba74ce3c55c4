"""The doctor on real mounts of a real store: what it says, its code, and nothing left behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from mountkit import backends
from mountkit.backends.file_operations import OPERATIONS
from support.filter import Filter, denied
from support.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.rig import Answer, Bucket, Rig

WRITES = {"PUT", "POST", "DELETE"}

ESSENTIAL = """
import sys
from mountkit import doctor
from mountkit.errors import MountkitError
from mountkit.mounts.mount import Mount
mount = Mount.containing(sys.argv[1])
try:
    doctor.essential(mount, *map(float, sys.argv[2:]))
except MountkitError as error:
    print(f"{error.exit_code} {error.message} / {error.hint}")
else:
    print("0")
"""


def doctor(
    rig: Rig, *words: Any, endpoint: str = "", program: tuple[str, ...] = (), **env: str | None
) -> Answer:
    """The doctor, to its end; it may leave nothing mounted, and nothing in the bucket."""
    before = rig.mounts()
    command = [*program, rig.python, "-m", "mountkit", "doctor", *words, *rig.how(endpoint)]
    answer = rig.start(*command, limit=90, **env).wait()
    assert rig.mounts() == before
    assert "Traceback" not in answer.err
    assert "should not happen" not in answer.err
    return answer


def named(answer: Answer) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in answer.json["findings"]}


def unwell(answer: Answer) -> dict[str, str]:
    """Everything that is not in order; what the test store tells and enforces is its own affair."""
    return {
        name: finding["status"]
        for name, finding in named(answer).items()
        if finding["status"] != "ok" and name not in {"checksum", "conditions"}
    }


def doctored(bucket: Bucket) -> list[str]:
    """What the doctor left in the bucket."""
    return [path for path in bucket.everything() if ".mountkit-" in path]


def trying(rig: Rig) -> bool:
    """Whether the helper that tries the operations runs."""
    return any("file_operations_child.py" in words for words in rig.processes().values())


def works(rig: Rig, answer: Answer) -> None:
    """Exactly the operations that the backend does not refuse work."""
    refuses = backends.load(rig.backend).unsupported_operations
    told = answer.json["operations"]
    assert [found["operation"] for found in told] == [operation.name for operation in OPERATIONS]
    assert {found["operation"] for found in told if not found["works"]} == refuses
    assert {found["operation"] for found in told if found["refused"]} == refuses


def test_a_run_that_will_save(rig: Rig, bucket: Bucket) -> None:
    answer = doctor(rig, f"s3://{bucket.name}/run", "--format", "json")
    assert answer.code == 0, answer
    assert answer.json["verdict"] == "This run will save."
    assert answer.json["backend"] == rig.backend
    assert unwell(answer) == {}
    works(rig, answer)
    assert "in the bucket after" in named(answer)["arrival"]["detail"]
    assert bucket.everything() == {}
    assert not any(rig.cache.iterdir()), "a cache of the trial stayed"
    assert not any(rig.state.iterdir()), "a state directory of the trial stayed"


def test_what_people_see(rig: Rig, bucket: Bucket) -> None:
    answer = doctor(rig, f"s3://{bucket.name}/run", COLUMNS="80")
    assert answer.code == 0, answer
    lines = answer.out.rstrip().splitlines()
    assert lines[-1] == "This run will save."
    assert max(map(len, lines)) <= 80
    for operation in OPERATIONS:
        assert any(line.startswith(operation.name) for line in lines), operation
    assert f"trying s3://{bucket.name}/run" in answer.err


def test_at_the_target_of_the_run(rig: Rig, bucket: Bucket) -> None:
    answer = doctor(rig, f"s3://{bucket.name}/run", rig.target, "--format", "json")
    assert answer.code == 0, answer
    assert str(rig.target) in answer.err
    assert bucket.everything() == {}
    assert list(rig.target.iterdir()) == []
    assert rig.record() is None


def test_on_a_mount_in_use(rig: Rig, bucket: Bucket) -> None:
    source = f"s3://{bucket.name}/run"
    assert rig.mount(source).code == 0
    rig.script("save:10")
    answer = doctor(rig, source, rig.target, "--format", "json")
    assert answer.code == 0, answer
    assert "in use already" in named(answer)["mount"]["detail"]
    assert rig.record() is not None, "it was unmounted"
    works(rig, answer)
    rig.script("save:20")
    # Nothing that was only tried is missed when everything must be proven.
    assert rig.umount().code == 0
    assert bucket.manifest("run/checkpoint-10")
    assert bucket.manifest("run/checkpoint-20")
    assert doctored(bucket) == []


@pytest.mark.uncached
@pytest.mark.parametrize("seconds", ["60", "indefinite"])
def test_a_mount_that_remembers_what_it_saw(rig: Rig, bucket: Bucket, seconds: str) -> None:
    words = ("--option", f"metadata-ttl={seconds}", "--format", "json")
    answer = doctor(rig, f"s3://{bucket.name}/run", *words)
    assert answer.code == 0, answer
    assert "leftover-mount" not in named(answer), answer
    assert bucket.everything() == {}


def test_on_a_mount_of_something_else(rig: Rig, bucket: Bucket) -> None:
    assert rig.mount(f"s3://{bucket.name}/other").code == 0
    answer = doctor(rig, f"s3://{bucket.name}/run", rig.target, "--format", "json")
    assert answer.code == 69, answer
    assert unwell(answer) == {"mount": "failed"}
    assert f"s3://{bucket.name}/other is mounted at" in answer.json["verdict"]
    assert rig.umount().code == 0


def test_at_a_target_that_is_not_empty(rig: Rig, bucket: Bucket) -> None:
    rig.target.mkdir()
    (rig.target / "thesis.txt").write_text("mine")
    answer = doctor(rig, f"s3://{bucket.name}/run", rig.target, "--format", "json")
    assert answer.code == 69, answer
    assert "thesis.txt" in answer.json["verdict"]


@pytest.mark.fault(19)
def test_a_read_only_credential(rig: Rig, bucket: Bucket) -> None:
    def rule(method: str, path: str, headers: Mapping[str, str]) -> str | None:
        return denied() if method in WRITES else None

    with Filter(rig.server.endpoint_url, rule) as store:
        answer = doctor(rig, f"s3://{bucket.name}/run", "--format", "json", endpoint=store.url)
    assert answer.code == 77, answer
    assert "s3:PutObject is not allowed" in answer.json["verdict"]
    assert unwell(answer) == {
        "put": "failed", "delete": "failed", "abort": "warning", "mount": "skipped",
    }  # fmt: skip
    assert bucket.everything() == {}


@pytest.mark.fault(19)
def test_a_wrong_region(rig: Rig, bucket: Bucket) -> None:
    def rule(method: str, path: str, headers: Mapping[str, str]) -> str | None:
        return denied("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>")

    with Filter(rig.server.endpoint_url, rule, status=400) as store:
        answer = doctor(rig, f"s3://{bucket.name}/run", "--format", "json", endpoint=store.url)
    assert answer.code == 78, answer
    verdict = answer.json["verdict"]
    assert "eu-west-3" in verdict
    assert "us-east-1" in verdict
    assert "--region eu-west-3" in verdict
    assert named(answer)["mount"]["status"] == "skipped"


SMALL_CACHE = 'mount -t tmpfs -o size=16m tmpfs "$1" && shift && exec "$@"'


@pytest.mark.fault(15)
@pytest.mark.cached
def test_a_cache_disk_that_is_full(rig: Rig, bucket: Bucket) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip("unshare -rm does not work here, so no small disk can be made")
    rig.cache.mkdir()
    # A mount namespace of its own: the small disk goes with the command.
    small = (unshare, "-rm", "sh", "-c", SMALL_CACHE, "sh", str(rig.cache))
    words = (f"s3://{bucket.name}/run", "--model-size", "13GB", "--format", "json")
    answer = doctor(rig, *words, program=small)
    assert answer.code == 69, answer
    assert unwell(answer) == {"room": "failed", "mount": "skipped"}
    verdict = answer.json["verdict"]
    assert str(rig.cache) in verdict
    assert "(16,777,216 bytes)" in verdict
    assert "(14,073,741,824 bytes)" in verdict
    assert "--cache-dir" in verdict


@pytest.mark.cached
def test_a_model_that_does_not_fit(rig: Rig, bucket: Bucket) -> None:
    answer = doctor(rig, f"s3://{bucket.name}/run", "--model-size", "900TB", "--format", "json")
    assert answer.code == 69, answer
    assert "900,000.0 GB for one checkpoint" in answer.json["verdict"]


@pytest.mark.fault(18)
def test_a_daemon_that_may_not_write_though_we_may(rig: Rig, bucket: Bucket) -> None:
    """Whatever the reason: the store refuses the daemon, and nobody else."""

    def rule(method: str, path: str, headers: Mapping[str, str]) -> str | None:
        ours = "mountkit/" in headers.get("User-Agent", "")
        return denied() if method in WRITES and not ours else None

    with Filter(rig.server.endpoint_url, rule) as store:
        answer = doctor(rig, f"s3://{bucket.name}/run", "--format", "json", endpoint=store.url)
        assert store.refused, "the daemon never tried"
    assert answer.code in {69, 77}, answer
    assert answer.json["verdict"].startswith("This run will not save: ")
    told = {name for name, status in unwell(answer).items() if status == "failed"}
    assert told & {"arrival", "write", "mount"}, answer
    assert "AccessDenied" in answer.json["verdict"]
    assert "mountkit doctor" not in answer.json["verdict"], "the doctor sends to the doctor"
    assert doctored(bucket) == []


def test_no_bucket_at_all(rig: Rig) -> None:
    answer = doctor(rig, "--format", "json")
    assert answer.code == 0, answer
    assert answer.json["verdict"] == "This machine can mount a bucket."
    assert unwell(answer) == {}


def test_the_bucket_of_the_environment(rig: Rig, bucket: Bucket) -> None:
    answer = doctor(
        rig,
        "--format",
        "json",
        MOUNTKIT_SOURCE=f"s3://{bucket.name}/run",
        MOUNTKIT_TARGET=str(rig.target),
    )
    assert answer.code == 0, answer
    assert str(rig.target) in answer.err
    assert "arrival" in named(answer)


def test_without_fusermount3_the_bucket_is_still_looked_at(rig: Rig, bucket: Bucket) -> None:
    # rclone is found beside the interpreter, without any PATH.
    tools = rig.tools(*(["mount-s3"] if shutil.which("mount-s3") else []))
    answer = doctor(rig, f"s3://{bucket.name}/run", "--format", "json", PATH=tools)
    assert answer.code == 69, answer
    found = named(answer)
    assert found["fusermount"]["status"] == "failed"
    assert "apt-get install fuse3" in answer.json["verdict"]
    assert found["put"]["status"] == "ok"
    assert found["mount"]["status"] == "skipped"


@pytest.mark.fault(34)
def test_a_store_that_never_answers(rig: Rig, bucket: Bucket) -> None:
    gate = rig.gate()
    gate.swallow()
    answer = doctor(rig, f"s3://{bucket.name}/run", "--format", "json", endpoint=gate.url)
    assert answer.code == 69, answer
    assert named(answer)["bucket"]["status"] == "failed"


@pytest.mark.parametrize("late", [False, True], ids=["while-mounting", "while-trying"])
def test_a_signal_takes_the_mount_away(rig: Rig, bucket: Bucket, late: bool) -> None:
    words = ["doctor", f"s3://{bucket.name}/run", str(rig.target), *rig.how()]
    job = rig.start(rig.python, "-m", "mountkit", *words)
    eventually(lambda: rig.mounts() or job.ended(), "mounted")
    if late:
        eventually(lambda: trying(rig) or job.ended(), "trying")
    job.process.send_signal(signal.SIGTERM)
    answer = job.wait()
    assert answer.code == 128 + signal.SIGTERM, answer
    eventually(lambda: not rig.mounts(), "unmounted", 10)


class TestEssential:
    def ask(self, rig: Rig, *words: str) -> str:
        answer = rig.start(rig.python, "-c", ESSENTIAL, str(rig.target), *words).wait()
        assert answer.code == 0, answer
        return answer.out.strip()

    def test_it_is_quick_and_leaves_nothing(self, rig: Rig, bucket: Bucket) -> None:
        assert rig.mount(f"s3://{bucket.name}/run").code == 0
        assert self.ask(rig) == "0"
        assert rig.pending() == 0
        assert bucket.everything() == {}
        assert rig.umount().code == 0
        assert bucket.everything() == {}

    @pytest.mark.fault(8)
    def test_a_mount_that_hangs(self, rig: Rig, bucket: Bucket) -> None:
        assert rig.mount(f"s3://{bucket.name}/run").code == 0
        daemon = rig.daemon()
        supervisor = rig.supervisor()
        # Nobody may repair it meanwhile.
        supervisor.suspend()
        daemon.suspend()
        try:
            told = self.ask(rig, "1.5")
        finally:
            daemon.resume()
            supervisor.resume()
        assert told.startswith(f"69 A save to {rig.target} will fail")
        assert "no answer within 1.5 s" in told
        assert f"mountkit doctor s3://{bucket.name}/run {rig.target}" in told
        assert rig.umount("--discard").code == 0

    @pytest.mark.fault(15)
    @pytest.mark.cached
    def test_a_cache_disk_that_is_full(self, rig: Rig, bucket: Bucket) -> None:
        rig.cache.mkdir()
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", rig.cache],
            capture_output=True,
            check=False,
        )
        if made.returncode:
            pytest.skip("only root can make a small disk here")
        try:
            assert rig.mount(f"s3://{bucket.name}/run").code == 0
            # More than there is: what fits is written, and the disk is full.
            subprocess.run(
                ["dd", "if=/dev/zero", f"of={rig.cache}/filler", "bs=4096"],
                stderr=subprocess.DEVNULL,
                check=False,
            )
            told = self.ask(rig)
            assert re.match(r"(69|77) A save to ", told), told
            assert rig.umount("--discard").code == 0
        finally:
            subprocess.run(["umount", "-l", rig.cache], check=True)


def test_every_process_is_gone(rig: Rig, bucket: Bucket) -> None:
    doctor(rig, f"s3://{bucket.name}/run", "--format", "json")
    psutil.wait_procs(list(rig.processes()), timeout=5)
    assert rig.processes() == {}
    assert json.dumps(rig.mounts()) == "[]"
