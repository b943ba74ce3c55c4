"""Files that a program removes or replaces while somebody has them open."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

import pytest

from support.rig import assert_same, eventually
from support.runs import kill_all

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

pytestmark = pytest.mark.cached

HEAD = """
import mmap, os, shutil, sqlite3, subprocess, sys, tempfile
from pathlib import Path
top = Path(sys.argv[1])

def write(name, data):
    (top / name).parent.mkdir(exist_ok=True)
    (top / name).write_bytes(data)

def hold(name, data=b"a" * 4000):
    write(name, data)
    stream = (top / name).open("rb")
    stream.read(10)
    return stream
"""

# What a program does in a folder of its own, and what has to be in the bucket then.
EVERYDAY = {
    "a temporary file": (
        """
with tempfile.TemporaryFile(dir=top) as stream:
    stream.write(b"x" * 5000)
    stream.flush()
""",
        {},
    ),
    "the temporary files of others": (
        """
os.environ["TMPDIR"] = str(top)
subprocess.run(["bash", "-c", "cat <<< text; sort <<< more"], check=True)
with tempfile.SpooledTemporaryFile(max_size=10, dir=top) as stream:
    stream.write(b"x" * 100)
""",
        {},
    ),
    "a longer one in its place": (
        """
with hold("state"):
    write("state.tmp", b"b" * 5000)
    os.replace(top / "state.tmp", top / "state")
""",
        {"state": b"b" * 5000},
    ),
    "a shorter one, still being written": (
        """
with hold("state"), tempfile.NamedTemporaryFile(dir=top, delete=False) as stream:
    stream.write(b"c" * 300)
    stream.flush()
    os.replace(stream.name, top / "state")
    stream.write(b"d" * 300)
""",
        {"state": b"c" * 300 + b"d" * 300},
    ),
    "one that is being written, by another one": (
        """
with (top / "state").open("wb") as stream:
    stream.write(b"a" * 100)
    stream.flush()
    write("state.tmp", b"b" * 5000)
    os.replace(top / "state.tmp", top / "state")
    stream.write(b"a" * 100)
""",
        {"state": b"b" * 5000},
    ),
    "one of an earlier moment, while it is written": (
        """
write("state", b"a" * 7000)
with (top / "state").open("r+b") as stream:
    stream.truncate(0)
    stream.write(b"c" * 10)
    write("state.tmp", b"b" * 5000)
    os.replace(top / "state.tmp", top / "state")
""",
        {"state": b"b" * 5000},
    ),
    "a mapped one": (
        """
with hold("state") as stream:
    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
write("state.tmp", b"b" * 5000)
os.replace(top / "state.tmp", top / "state")
mapped[100]
mapped.close()
""",
        {"state": b"b" * 5000},
    ),
    "written to by a child": (
        """
with (top / "log").open("wb") as stream:
    stream.write(b"1" * 3000)
    stream.flush()
    code = "import sys; sys.stdin.read(); print('x' * 500, flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=stream)
    os.unlink(top / "log")
child.communicate(b"")
""",
        {},
    ),
    "and made anew": (
        """
with (top / "log").open("wb") as stream:
    stream.write(b"1" * 3000)
    stream.flush()
    os.unlink(top / "log")
    write("log", b"new")
    stream.write(b"2" * 3000)
""",
        {"log": b"new"},
    ),
    "with its directory": (
        """
write("below/log", b"1")
with (top / "below/log").open("ab") as stream:
    stream.write(b"1" * 3000)
    stream.flush()
    shutil.rmtree(top / "below")
    stream.write(b"2" * 10)
""",
        {},
    ),
}

DATABASE = """
base = sqlite3.connect(top / "base.db")
base.execute("pragma journal_mode = wal")
base.execute("create table t (n)")
base.executemany("insert into t values (?)", [(n,) for n in range(100)])
base.commit()
base.close()
"""


def python(rig: Rig, code: str, *below: str) -> list[str]:
    return [sys.executable, "-c", HEAD + code, str(rig.target.joinpath(*below))]


def records(rig: Rig) -> dict[str, dict]:
    found = {}
    for path in rig.cache.rglob("vfsMeta/**/*"):
        # rclone rewrites a record in place: what is read in the middle of that says nothing.
        with contextlib.suppress(ValueError, FileNotFoundError):
            # Of two files that had one name two threads write it at once, and the longer text shows
            # behind the last one: the first value counts, for rclone, too.
            text = path.read_text() if path.is_file() else ""
            found[path.name], _ = json.JSONDecoder().raw_decode(text)
    return found


@pytest.mark.fault(44)
def test_what_was_removed_or_replaced_while_open_is_not_missed(rig: Rig, bucket: Bucket) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    code = "".join(
        f"top = Path(sys.argv[1]) / {name!r}\ntop.mkdir()\n{action}"
        for name, (action, _) in {**EVERYDAY, "a database": (DATABASE, {})}.items()
    )
    answer = rig.run(f"s3://{bucket.name}/run", python(rig, code))
    assert answer.code == 0, answer
    expected = {
        f"{name}/{path}": data
        for name, (_, files) in EVERYDAY.items()
        for path, data in files.items()
    }
    found = bucket.files("run")
    database = found.pop("a database/base.db")
    assert database.startswith(b"SQLite format 3")
    assert_same(found, expected)


@pytest.mark.fault(44)
def test_what_a_killed_run_left_in_that_state_is_not_missed_by_the_next(
    rig: Rig, bucket: Bucket
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    names = ["a temporary file", "a shorter one, still being written", "and made anew"]
    code = "".join(EVERYDAY[name][0] for name in names) + "print(flush=True)\nsys.stdin.read()\n"
    words = "'" + "' '".join(part.replace("'", "'\\''") for part in python(rig, code)) + "'"
    job = rig.begin(source, ["bash", "-c", f"sleep inf | {words} > {rig.work}/done"])
    eventually(lambda: (rig.work / "done").exists() and records(rig), "begun")
    eventually(
        lambda: (
            (seen := records(rig)).keys() >= {"state", "log"}
            and not any(record["Dirty"] for record in seen.values())
        ),
        "uploaded",
    )
    kill_all(rig, job)
    for _ in range(2):
        again = rig.run(source, rig.light("exit:0"))
        assert again.code == 0, again
    assert_same(bucket.files("run"), {"state": b"c" * 300 + b"d" * 300, "log": b"new"})


@pytest.mark.fault(11)
def test_what_a_killed_daemon_had_not_fetched_does_not_become_zeros(
    rig: Rig, bucket: Bucket
) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    bucket.put("run/log", b"a" * 3000)
    code = """
stream = (top / "log").open("ab", buffering=0)
stream.write(b"b" * 500)
print(flush=True)
sys.stdin.read()
"""
    words = "'" + "' '".join(part.replace("'", "'\\''") for part in python(rig, code)) + "'"
    source = f"s3://{bucket.name}/run"
    job = rig.begin(source, ["bash", "-c", f"sleep inf | {words} > {rig.work}/done"])
    eventually(lambda: (rig.work / "done").exists() and "log" in records(rig), "begun")
    eventually(lambda: (rig.work / "done").stat().st_size, "written")
    kill_all(rig, job)
    again = rig.run(source, rig.light("exit:0"))
    # Those that were there are, whatever became of the line that was being added.
    assert bucket.files("run")["log"].startswith(b"a" * 3000), again


@pytest.mark.fault(4, 44)
@pytest.mark.parametrize("before", ["its upload", "its proof"])
def test_bytes_that_somebody_took_away_are_missed(rig: Rig, bucket: Bucket, before: str) -> None:
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    late = rig.late if before == "its upload" else ()
    job = rig.begin(
        f"s3://{bucket.name}/run", rig.light("model:final", "say:saved", "wait:go"), *late
    )
    rig.await_word("saved", job)
    if not late:
        eventually(lambda: rig.pending() == 0 and bucket.files("run"), "uploaded")
    (data,) = rig.cache.rglob("vfs/**/model.safetensors")
    data.unlink()
    if not late:
        bucket.remove("run/final/model.safetensors")
    rig.say("go")
    answer = job.wait()
    assert answer.code == 75, answer
    assert "final/model.safetensors" in answer.err
