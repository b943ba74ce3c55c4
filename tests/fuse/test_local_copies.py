"""What is proven leaves the cache of this machine while a training goes on; nothing else does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.rig import assert_same

if TYPE_CHECKING:
    from support.rig import Bucket, Rig

pytestmark = pytest.mark.cached

HEAD = """
import json, os, sys, threading, time
from pathlib import Path
from mountkit.mounts.mount import Mount
top, folder = Path(sys.argv[1]), ""
control = Mount.containing(top).control()

def write(name, data):
    (top / folder / name).parent.mkdir(parents=True, exist_ok=True)
    (top / folder / name).write_bytes(data)

def files():
    return {file.path.removeprefix(f"{folder}/"): file for file in control.files(folder)}

def clean(*names):
    limit = time.monotonic() + 60
    while True:
        control.flush_uploads()
        seen = files()
        if all(name in seen and not seen[name].dirty for name in names):
            return [seen[name] for name in names]
        assert time.monotonic() < limit, seen
        time.sleep(0.02)

def drop(*names):
    "Have rclone upload them, and drop the copies; which stay."
    stay = control.evict(clean(*names))
    return [path.removeprefix(f"{folder}/") for path in stay]

def dropped(*names):
    "The same, for files that nobody uses any more: a close may still be under way."
    limit = time.monotonic() + 60
    while drop(*names):
        assert time.monotonic() < limit, names
    assert not set(names) & files().keys()
"""

# What a program does to a file whose copy was dropped, or that is in use; what the bucket has then.
AFTERWARDS = {
    "reads it": (
        """
write("a", b"a" * 200_000)
dropped("a")
assert (top / folder / "a").read_bytes() == b"a" * 200_000
with (top / folder / "a").open("rb") as stream:
    stream.seek(-5, os.SEEK_END)
    assert stream.read() == b"aaaaa"
""",
        {"a": b"a" * 200_000},
    ),
    "adds to it": (
        """
write("a", b"a" * 200_000)
dropped("a")
with (top / folder / "a").open("ab") as stream:
    stream.write(b"more")
""",
        {"a": b"a" * 200_000 + b"more"},
    ),
    "changes it": (
        """
write("a", b"a" * 200_000)
dropped("a")
with (top / folder / "a").open("r+b") as stream:
    stream.seek(1000)
    stream.write(b"more")
""",
        {"a": b"a" * 1000 + b"more" + b"a" * 198_996},
    ),
    "writes it anew": (
        """
write("a", b"a" * 200_000)
dropped("a")
write("a", b"short")
dropped("a")
write("a", b"b" * 300_000)
""",
        {"a": b"b" * 300_000},
    ),
    "renames it": (
        """
write("a", b"a" * 5000)
write("sub/c", b"c" * 5000)
dropped("a", "sub/c")
(top / folder / "a").rename(top / folder / "b")
(top / folder / "sub").rename(top / folder / "other")
write("a", b"another")
assert (top / folder / "b").read_bytes() == b"a" * 5000
assert (top / folder / "other/c").read_bytes() == b"c" * 5000
""",
        {"a": b"another", "b": b"a" * 5000, "other/c": b"c" * 5000},
    ),
    "renames another one onto it": (
        """
write("a", b"a" * 5000)
dropped("a")
write("b", b"b" * 9000)
os.replace(top / folder / "b", top / folder / "a")
assert (top / folder / "a").read_bytes() == b"b" * 9000
""",
        {"a": b"b" * 9000},
    ),
    "removes it": (
        """
write("a", b"a" * 5000)
write("b", b"b")
dropped("a", "b")
(top / folder / "a").unlink()
(top / folder / "b").unlink()
write("b", b"anew")
""",
        {"b": b"anew"},
    ),
    "drops one that is empty": (
        """
write("a", b"")
dropped("a")
assert (top / folder / "a").read_bytes() == b""
with (top / folder / "a").open("ab") as stream:
    stream.write(b"more")
""",
        {"a": b"more"},
    ),
    "has it open, to read": (
        """
write("a", b"a" * 200_000)
clean("a")
with (top / folder / "a").open("rb") as stream:
    stream.read(10)
    assert drop("a") == ["a"]
    assert stream.read() == b"a" * 199_990
dropped("a")
""",
        {"a": b"a" * 200_000},
    ),
    "has it open, to write": (
        """
write("a", b"a" * 200_000)
clean("a")
with (top / folder / "a").open("r+b") as stream:
    stream.write(b"bbb")
    stream.flush()
    assert control.evict([file for file in files().values()]) == (f"{folder}/a",)
""",
        {"a": b"bbb" + b"a" * 199_997},
    ),
    "opens it, and writes later": (
        """
write("a", b"a" * 200_000)
clean("a")
with (top / folder / "a").open("r+b") as stream:
    # rclone opens nothing before there is something to write.
    dropped("a")
    stream.seek(1000)
    stream.write(b"bbb")
""",
        {"a": b"a" * 1000 + b"bbb" + b"a" * 198_997},
    ),
    "has not uploaded it": (
        """
write("a", b"a" * 5000)
write("b", b"b" * 5000)
(seen,) = clean("a")
write("a", b"c" * 5000)
assert control.evict([seen]) == (f"{folder}/a",)
""",
        {"a": b"c" * 5000, "b": b"b" * 5000},
    ),
}


@pytest.mark.fault(15)
def test_what_becomes_of_a_file_whose_copy_was_dropped(rig: Rig, bucket: Bucket) -> None:
    parts = [HEAD]
    for number, (source, _) in enumerate(AFTERWARDS.values()):
        parts.append(f"folder = 'f{number}'\n{source}")
    parts.append(f"Path({str(rig.gates)!r}, 'done').touch()")
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", "".join(parts), str(rig.target)])
    assert (rig.gates / "done").exists(), answer
    # Without a manifest nobody has proven what was dropped.
    missed = [line for line in answer.err.splitlines() if "not proven: " in line]
    assert all("left the local cache before" in line for line in missed), answer
    for number, (what, (_, expected)) in enumerate(AFTERWARDS.items()):
        print(what)
        assert_same(bucket.files(f"run/f{number}"), expected)
    # Nothing is left aside.
    assert not list(rig.cache.rglob("evicted.*"))


# One thread opens the file again and again, as rclone is asked to drop it in between.
BUSY = """
import random
done, wrong, generator = threading.Event(), [], random.Random(1)

def use():
    count = 0
    while not done.is_set():
        data = (top / "a").read_bytes()
        if data != b"a" * 200_000 + b"+" * (len(data) - 200_000) or len(data) < 200_000 + count:
            wrong.append(len(data))
        if "a" not in files():
            with (top / "a").open("ab") as stream:
                stream.write(b"+")
            count += 1
        # At any distance from the moment at which it is dropped.
        time.sleep(generator.random() * 0.06)
    added.append(count)

drops, added = [], []
write("a", b"a" * 200_000)
thread = threading.Thread(target=use)
thread.start()
limit = time.monotonic() + 45
while sum(drops) < int(sys.argv[3]) and time.monotonic() < limit:
    control.flush_uploads()
    seen = [file for file in files().values() if file.path == "a" and not file.dirty]
    if seen:
        drops.append(0 if control.evict(seen) else 1)
    time.sleep(0.01)
done.set()
thread.join()
Path(sys.argv[2]).write_text(json.dumps({"drops": sum(drops), "added": added, "wrong": wrong}))
"""


@pytest.mark.fault(15)
def test_a_file_that_is_used_while_its_copy_is_dropped_loses_no_byte(
    rig: Rig, bucket: Bucket
) -> None:
    report = rig.work / "report.json"
    words = [rig.python, "-c", HEAD + BUSY, str(rig.target), str(report), "20"]
    # A newer rclone keeps a file open for a while after its last reader has closed it.
    answer = rig.run(f"s3://{bucket.name}/run", words, "--option", "vfs-handle-caching=0")
    assert report.exists(), answer
    told = json.loads(report.read_text())
    assert told["wrong"] == []
    assert told["drops"] > 1, told
    assert_same(bucket.files("run"), {"a": b"a" * 200_000 + b"+" * told["added"][0]})
