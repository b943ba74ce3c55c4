"""Bad input: a sentence, the next command, the right code, and the command never runs."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mountkit.demo.s3_server import EmbeddedS3
from support.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.rig import Answer, Bucket, Rig

# Time in which a busy machine did not let it ask does not count as silence.
GIVEN_UP = re.compile(r"gave no answer in \d s|ConnectTimeout|this machine hardly let it run")


def refuse(rig: Rig, code: int | set[int], *words: str, **more: str | None) -> Answer:
    """Try to run a command that leaves a mark; see that it does not, and what is said instead."""
    where = more.pop("endpoint", "") or ""
    source = more.pop("source", None) or f"s3://{rig.bucket().name}/run"
    answer = rig.run(source, rig.light("say:ran"), *words, endpoint=where, limit=60, **more)
    assert answer.code in ({code} if isinstance(code, int) else code), answer
    assert not (rig.gates / "started").exists(), "the command ran"
    assert answer.out == ""
    said = answer.err.strip().splitlines()
    assert said[0].startswith("mountkit: ")
    assert "." in said[0], f"no sentence: {said[0]}"
    assert len(said) >= 2, f"no word of what to do next: {answer}"
    assert "Traceback" not in answer.err
    assert rig.mounts() == []
    return answer


@pytest.mark.fault(18)
def test_a_wrong_secret(rig: Rig) -> None:
    answer = refuse(rig, {77, 78}, AWS_SECRET_ACCESS_KEY="wrong-" + "x" * 34)
    assert "xxxx" not in answer.err


@pytest.mark.fault(18)
def test_a_wrong_access_key(rig: Rig) -> None:
    refuse(rig, {77, 78}, AWS_ACCESS_KEY_ID="nobody")


@pytest.mark.fault(18)
def test_no_credentials(rig: Rig) -> None:
    answer = refuse(rig, 78, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert "credentials" in answer.err


@pytest.mark.fault(18)
def test_no_such_profile(rig: Rig) -> None:
    answer = refuse(
        rig, 78, "--profile", "nobody", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None
    )
    assert "nobody" in answer.err


@pytest.mark.fault(19)
def test_no_such_bucket(rig: Rig) -> None:
    answer = refuse(rig, 78, source="s3://nobody-made-this/run")
    assert "nobody-made-this" in answer.err


@pytest.mark.fault(19)
def test_a_bucket_that_one_may_not_write_to(
    make_rig: Callable[[EmbeddedS3], Rig], rclone: str
) -> None:
    with EmbeddedS3(binary=rclone, read_only=True, buckets=["look"]) as server:
        rig = make_rig(server)
        refuse(rig, 77, source="s3://look/run")
        assert rig.bucket("look").everything() == {}


def test_an_endpoint_where_nobody_listens(rig: Rig) -> None:
    with socket.socket() as closed:
        # Bound but not listening: connections are refused.
        closed.bind(("127.0.0.1", 0))
        answer = refuse(rig, 69, endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert "127.0.0.1" in answer.err


def test_an_endpoint_that_never_answers(rig: Rig) -> None:
    gate = rig.gate()
    gate.swallow()
    assert GIVEN_UP.search(refuse(rig, 69, endpoint=gate.url).err)


def test_an_endpoint_that_never_even_accepts(rig: Rig) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = silent.getsockname()
        # The one place in the queue is taken, so that nobody else gets through.
        with socket.create_connection(address):
            answer = refuse(rig, 69, endpoint=f"http://127.0.0.1:{address[1]}")
    assert GIVEN_UP.search(answer.err)


@pytest.mark.parametrize("source", ["bucket/run", "/tmp/run", "s3://", "ftp://host/run", "s3:run"])
def test_a_url_that_is_none(rig: Rig, source: str) -> None:
    refuse(rig, 2, source=source)


@pytest.mark.fault(9)
def test_a_target_that_is_a_file(rig: Rig) -> None:
    rig.target.write_text("mine")
    refuse(rig, 69)
    assert rig.target.read_text() == "mine"


@pytest.mark.fault(9)
def test_a_target_below_a_file(rig: Rig) -> None:
    (rig.work / "file").write_text("mine")
    answer = refuse(rig, 69, target=rig.work / "file" / "output")
    assert str(rig.work / "file") in answer.err


@pytest.mark.fault(9)
def test_a_target_that_is_not_empty(rig: Rig) -> None:
    rig.target.mkdir()
    (rig.target / "thesis.txt").write_text("mine")
    answer = refuse(rig, 69)
    assert "thesis.txt" in answer.err
    assert (rig.target / "thesis.txt").read_text() == "mine"


def test_no_fusermount3(rig: Rig) -> None:
    answer = refuse(rig, 69, PATH=rig.tools())
    assert "fusermount3" in answer.err


# What each program says of itself, and the oldest that will do.
VERSIONS = {
    "rclone": ("rclone v1.60.0", "rclone v1.75.0", "1.60.0", "1.68"),
    "mountpoint": ("mount-s3 1.19.0", "mount-s3 1.24.0", "1.19.0", "1.22"),
}


def test_no_program(rig: Rig) -> None:
    program, path = rig.place_program()
    program.unlink()
    answer = refuse(rig, 69, PATH=path)
    assert program.name in answer.err


def test_a_program_that_is_too_old(rig: Rig) -> None:
    says, _, old, oldest = VERSIONS[rig.backend]
    _, path = rig.place_program(f"echo '{says}'")
    answer = refuse(rig, 69, PATH=path)
    assert old in answer.err
    assert oldest in answer.err


def test_a_program_that_ends_at_once(rig: Rig) -> None:
    says = VERSIONS[rig.backend][1]
    _, path = rig.place_program(
        f"case \"$1\" in version|--version) echo '{says}'; exit;; esac\n"
        "echo 'the moon is in the wrong phase' >&2\nexit 9"
    )
    answer = refuse(rig, 69, PATH=path)
    assert "the moon is in the wrong phase" in answer.err
    assert rig.record() is None


# Like a container without the device: a /dev of our own in a mount namespace of our own.
BARE_DEV = """
set -e
for name in null zero random urandom; do
    : >"$1/$name"
    mount --bind "/dev/$name" "$1/$name"
done
mount --rbind "$1" /dev
shift
exec "$@"
"""


def test_no_fuse_device(rig: Rig) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip("unshare -rm does not work here, so /dev/fuse cannot be hidden")
    (rig.work / "dev").mkdir()
    words = ["run", f"s3://{rig.bucket().name}/run", str(rig.target), *rig.how(), "--"]
    command = [rig.python, "-m", "mountkit", *words, *rig.light("say:ran")]
    hide = [unshare, "-rm", "sh", "-c", BARE_DEV, "sh", str(rig.work / "dev")]
    answer = rig.start(*hide, *command).wait()
    assert answer.code == 69, answer
    assert "/dev/fuse" in answer.err
    assert not (rig.gates / "started").exists()


@pytest.mark.uncached
@pytest.mark.fault(2)
def test_a_store_whose_answers_the_daemon_does_not_read(
    make_rig: Callable[[EmbeddedS3], Rig], rclone: str
) -> None:
    # It starts an upload in words that are not those of S3.
    with EmbeddedS3(binary=rclone, buckets=["look"]) as server:
        rig = make_rig(server)
        answer = rig.run("s3://look/run", rig.light("say:ran"))
        assert answer.code == 69, answer
        assert "takes no file" in answer.err
        assert "UPLOAD_ID" in answer.err
        assert "--backend rclone" in answer.err
        assert not (rig.gates / "ran").exists()
        assert rig.mounts() == []


def test_a_command_that_is_not_there(rig: Rig, bucket: Bucket) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", ["no-such-command"])
    assert answer.code in {2, 127}, answer
    assert "no-such-command" in answer.err
    assert rig.mounts() == []


@pytest.mark.cached
@pytest.mark.parametrize(
    "option", ["vfs-write-back=0", "vfs-cache-mode=off", "s3-secret-access-key=x", "transfers"]
)
def test_options_that_would_lose_data_or_show_a_secret(rig: Rig, option: str) -> None:
    refuse(rig, 2, "--option", option)


def test_an_option_that_the_daemon_does_not_know(rig: Rig) -> None:
    answer = refuse(rig, 69, "--option", "no-such-flag=1")
    assert "no-such-flag" in answer.err


def test_mount_in_the_background_says_the_same(rig: Rig) -> None:
    answer = rig.mount("s3://nobody-made-this/run")
    assert answer.code == 78, answer
    assert "nobody-made-this" in answer.err
    assert rig.record() is None
    eventually(lambda: not rig.processes(), "ended")


def test_the_interpreter_is_the_tests_own(rig: Rig) -> None:
    """A Python with nothing beside it still has the package: or the tests above say nothing."""
    rig._place_python()
    assert rig.python != sys.executable
    assert rig.mountkit("--version").code == 0
