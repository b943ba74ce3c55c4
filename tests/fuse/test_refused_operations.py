"""What a mount for sequential writes refuses, and a program that does not listen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.proxy import Fault, Request
from support.runs import kill_all

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

pytestmark = pytest.mark.uncached

# Each does what the mount refuses, and hides it as a careless library does.
SEEK = """
import contextlib, os, sys
descriptor = os.open(sys.argv[1] + "/index.bin", os.O_WRONLY | os.O_CREAT)
os.write(descriptor, b"x" * 100)
with contextlib.suppress(OSError):
    os.pwrite(descriptor, b"y", 10)
with contextlib.suppress(OSError):
    os.close(descriptor)
"""
SECOND = """
import contextlib, sys
path = sys.argv[1] + "/log.txt"
with open(path, "w") as stream:
    stream.write("first")
    stream.flush()
    try:
        open(path, "w").write("second")
    except OSError as error:
        print(error, file=sys.stderr)
"""
SWALLOWED = """
import contextlib, os, sys
descriptor = os.open(sys.argv[1] + "/tokenizer.json", os.O_WRONLY | os.O_CREAT)
os.write(descriptor, b"{}")
with contextlib.suppress(OSError):
    os.close(descriptor)
"""
RENAMED = """
import os, sys
with open(sys.argv[1] + "/.tmp", "wb") as stream:
    stream.write(b"weights")
os.rename(sys.argv[1] + "/.tmp", sys.argv[1] + "/weights")
"""
NAMED = re.compile(r"not proven: (.*?) \(")

# Each writes, is refused more, and hides it; the names say what was lost.
LOST = """
import contextlib, os, pathlib, sys, threading
def write(name, data=b"first\\n"):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "wb") as stream:
        stream.write(data)
os.chdir(sys.argv[1])
swallowed = contextlib.suppress(OSError)
write("logs/appended.txt")
with swallowed:
    open("logs/appended.txt", "ab").write(b"second\\n")
with open("logs/thread.txt", "wb", buffering=0) as stream:
    stream.write(b"first\\n")
    def log():
        with contextlib.suppress(OSError):
            open("logs/thread.txt", "ab").write(b"second\\n")
    thread = threading.Thread(target=log)
    thread.start()
    thread.join()
    with swallowed:
        open("logs/thread.txt", "r+b")
write("deep/er/changed.bin")
with swallowed, open("deep/er/changed.bin", "r+b", buffering=0) as stream:
    stream.write(b"F")
with open("fsynced.txt", "wb", buffering=0) as stream:
    stream.write(b"first\\n")
    os.fsync(stream.fileno())
    with swallowed:
        stream.write(b"second\\n")
write("shortened.txt")
with swallowed:
    os.truncate("shortened.txt", 2)
with open("lengthened.bin", "wb", buffering=0) as stream:
    stream.truncate(100)
    stream.write(b"first\\n")
for name, cut in ("cut.bin", 1), ("emptied.bin", 0):
    with open(name, "wb", buffering=0) as stream:
        stream.write(b"x" * 4096)
        os.truncate(name, cut)
write("touched.txt")
for _ in range(2):
    with swallowed:
        open("touched.txt", "ab").write(b"second\\n")
with swallowed:
    os.utime("touched.txt")
write("also touched.txt")
with swallowed:
    pathlib.Path("also touched.txt").touch()
with swallowed:
    open("also touched.txt", "ab").write(b"second\\n")
with swallowed:
    os.open("synced.txt", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
write("reader.txt")
with open("reader.txt", "rb") as reader:
    reader.read(1)
    with swallowed:
        open("reader.txt", "wb").write(b"second\\n")
write("folder/in it.txt")
with swallowed:
    os.rename("folder", "moved")
write("checkpoint-1/model.bin")
with swallowed:
    open("checkpoint-1/model.bin", "ab")
write("checkpoint-1/trainer_state.json", b'{"global_step": 1}')
"""
# The last file is removed, and written anew.
ELSEWHERE = """
import contextlib, os, sys
os.chdir(sys.argv[1])
for folder, change in (
    ("a", lambda descriptor: os.write(descriptor, b"F")),
    ("b", lambda descriptor: os.pwrite(descriptor, b"F", 3)),
    ("c", lambda descriptor: os.ftruncate(descriptor, 2)),
):
    descriptor = os.open(folder + "/train.log", os.O_RDWR)
    with contextlib.suppress(OSError):
        change(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)
os.remove("d/train.log")
os.makedirs("d", exist_ok=True)
with open("d/train.log", "wb") as stream:
    stream.write(b"second\\n")
"""
# Each is refused something too, and nothing is lost.
KEPT = """
import contextlib, os, pathlib, shutil, subprocess, sys, threading
def write(name, data=b"first\\n"):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "wb") as stream:
        stream.write(data)
os.chdir(sys.argv[1])
swallowed = contextlib.suppress(OSError)
write("whole.txt")
try:
    open("whole.txt", "ab").write(b"second\\n")
except OSError:
    write("whole.txt", b"first\\nsecond\\n")
write("removed.txt")
with swallowed:
    open("removed.txt", "ab")
os.remove("removed.txt")
write("a.txt")
for change in (
    lambda: os.chmod("a.txt", 0o600),
    lambda: os.utime("a.txt", (1, 1)),
    lambda: os.link("a.txt", "b.txt"),
    lambda: os.symlink("a.txt", "c.txt"),
    lambda: os.truncate("a.txt", 6),
    lambda: pathlib.Path("a.txt").touch(),
    lambda: subprocess.run(["touch", "a.txt"], stderr=subprocess.DEVNULL),
    lambda: open("a.txt", "r+b").read(),
    lambda: open("new.txt", "ab").write(b"first\\n"),
    lambda: os.rename("none", "some"),
    lambda: os.mkfifo("fifo"),
):
    with swallowed:
        change()
with open("lock", "w") as lock:
    def again():
        with contextlib.suppress(OSError):
            open("lock", "w")
        with contextlib.suppress(OSError):
            open("lock")
    thread = threading.Thread(target=again)
    thread.start()
    thread.join()
with open("ahead.bin", "wb", buffering=0) as stream:
    stream.truncate(6)
    stream.write(b"first\\n")
with open("at its end.bin", "wb", buffering=0) as stream:
    stream.truncate()
    stream.write(b"first\\n")
    stream.truncate()
for how in (os.O_RDWR, os.O_RDWR | os.O_APPEND):
    write("unlinked.txt")
    descriptor = os.open("unlinked.txt", how)
    os.remove("unlinked.txt")
    with swallowed:
        os.write(descriptor, b"second\\n")
    with swallowed:
        os.close(descriptor)
write("folder/x.txt")
try:
    os.rename("folder", "moved")
except OSError:
    write("moved/x.txt")
    os.remove("folder/x.txt")
"""
REPLACED = """
import contextlib, os, shutil, sys
os.chdir(sys.argv[1])
def write(name, data=b"first\\n"):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "wb") as stream:
        stream.write(data)
for name in ("one.txt", "two/two.txt"):
    write(name + ".tmp")
    with contextlib.suppress(OSError):
        os.replace(name + ".tmp", name)
write("gone.tmp")
with contextlib.suppress(OSError):
    os.replace("gone.tmp", "gone.txt")
os.remove("gone.tmp")
write("copied.tmp")
try:
    os.replace("copied.tmp", "copied.txt")
except OSError:
    write("copied.txt")
    os.remove("copied.tmp")
"""


@pytest.mark.fault(46)
def test_content_that_was_refused_is_named_whatever_the_program_made_of_it(
    rig: Rig, bucket: Bucket
) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", LOST, str(rig.target)])
    assert answer.code == 75, answer
    assert set(NAMED.findall(answer.err)) == {
        "logs/appended.txt",
        "logs/thread.txt",
        "deep/er/changed.bin",
        "fsynced.txt",
        "shortened.txt",
        "lengthened.bin",
        "cut.bin",
        "emptied.bin",
        "touched.txt",
        "also touched.txt",
        "synced.txt",
        "reader.txt",
        "moved",
        "checkpoint-1/model.bin",
    }, answer
    assert "its content is still there" in answer.err
    assert bucket.manifest("run/checkpoint-1") is None
    assert bucket.files("run")["logs/thread.txt"] == b"first\n"
    # It is over with that run: the next one has lost nothing.
    again = rig.run(f"s3://{bucket.name}/run", ["true"])
    assert again.code == 0, again


@pytest.mark.fault(3, 7, 11, 46)
@pytest.mark.parametrize("killed", [False, True])
def test_a_checkpoint_that_lacks_what_was_refused_is_proven_by_no_later_run(
    rig: Rig, bucket: Bucket, killed: bool
) -> None:
    source = f"s3://{bucket.name}/run"
    # The program passes over the error, and saves the rest of it well.
    line = (
        "mkdir checkpoint-10; cd checkpoint-10; echo half >optimizer.pt; echo more >>optimizer.pt; "
        'echo "{\\"global_step\\": 10}" >trainer_state.json; cd ..; echo a >log; echo b >>log; '
        'touch "$1"; until [ -e "$2" ]; do sleep 0.05; done'
    )
    words = ["sh", "-c", f'cd "$0"; {line}', str(rig.target)]
    job = rig.begin(source, [*words, str(rig.gates / "saved"), str(rig.gates / "end")])
    rig.await_word("saved", job)
    if killed:
        kill_all(rig, job)
        told = rig.run(source, ["true"])
    else:
        rig.say("end")
        told = job.wait()
    assert told.code == 75, told
    assert {"log", "checkpoint-10/optimizer.pt"} <= set(NAMED.findall(told.err)), told
    again = rig.run(source, ["true"])
    assert again.code == 0, again
    assert "checkpoint-10 is not a finished checkpoint" in again.err
    assert bucket.manifest("run/checkpoint-10") is None
    assert rig.ask("latest", source).code == 1


@pytest.mark.fault(46)
def test_what_is_refused_without_a_loss_is_no_reason_to_say_75(rig: Rig, bucket: Bucket) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", KEPT, str(rig.target)])
    assert answer.code == 0, answer
    first = b"first\n"
    assert bucket.files("run") == {
        "whole.txt": b"first\nsecond\n",
        "a.txt": first,
        "new.txt": first,
        "lock": b"",
        "ahead.bin": first,
        "at its end.bin": first,
        "moved/x.txt": first,
    }


@pytest.mark.fault(46)
def test_a_file_of_the_same_name_elsewhere_does_not_make_it_good(rig: Rig, bucket: Bucket) -> None:
    # This daemon has not written them, and does not know them yet.
    for folder in "abcd":
        bucket.put(f"run/{folder}/train.log", b"first\n")
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", ELSEWHERE, str(rig.target)])
    assert answer.code == 75, answer
    assert set(NAMED.findall(answer.err)) == {"a/train.log", "b/train.log", "c/train.log"}, answer


@pytest.mark.fault(46)
def test_a_rename_that_the_store_does_not_do_is_named_by_both_names(
    rig: Rig, bucket: Bucket
) -> None:
    def rule(request: Request) -> Fault | None:
        return Fault(501, "NotImplemented") if "renameObject" in request.query else None

    proxy = rig.proxy()
    proxy.rule = rule
    command = [rig.python, "-c", REPLACED, str(rig.target)]
    answer = rig.run(f"s3://{bucket.name}/run", command, endpoint=proxy.url)
    assert answer.code == 75, answer
    for name in ("one.txt", "two/two.txt"):
        assert f"not proven: {name} " in answer.err
        assert f"its rename from {name}.tmp was refused: its content is still there" in answer.err
    assert "not proven: gone.txt " in answer.err
    assert "gone.tmp was removed after that" in answer.err
    assert answer.err.count("not proven: ") == 3, answer
    assert bucket.files("run").keys() == {"one.txt.tmp", "two/two.txt.tmp", "copied.txt"}


def test_a_write_that_is_not_sequential_is_named(rig: Rig, bucket: Bucket) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", SEEK, str(rig.target)])
    assert answer.code == 75, answer
    assert "not proven: index.bin" in answer.err
    assert "out-of-order write" in answer.err
    assert bucket.everything("run") == {}


def test_a_second_open_for_writing_does_no_harm_to_the_first(rig: Rig, bucket: Bucket) -> None:
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", SECOND, str(rig.target)])
    assert answer.code == 0, answer
    assert "log.txt" in answer.err
    assert bucket.everything("run") == {"log.txt": b"first"}


@pytest.mark.fault(2, 4)
def test_a_failed_upload_that_nobody_heard_of_is_no_silent_zero(rig: Rig, bucket: Bucket) -> None:
    def rule(request: Request) -> Fault | None:
        ends = request.method == "POST" and "uploadId" in request.query
        return Fault(403, "AccessDenied") if ends and "tokenizer" in request.key else None

    proxy = rig.proxy()
    proxy.rule = rule
    command = [rig.python, "-c", SWALLOWED, str(rig.target)]
    answer = rig.run(f"s3://{bucket.name}/run", command, endpoint=proxy.url)
    assert answer.code == 75, answer
    assert "not proven: tokenizer.json" in answer.err
    assert "AccessDenied" in answer.err
    assert bucket.everything("run") == {}


@pytest.mark.fault(41)
def test_a_rename_that_the_store_only_says_it_did_is_no_silent_zero(
    rig: Rig, bucket: Bucket
) -> None:
    # This store makes an empty object of it, and answers that all went well.
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", RENAMED, str(rig.target)])
    assert answer.code == 75, answer
    assert "not proven: weights" in answer.err
