"""What a mount for sequential writes refuses, and a program that does not listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from proxy import Fault, Request

if TYPE_CHECKING:
    from rig import Bucket, Rig

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


def test_a_rename_that_the_store_only_says_it_did_is_no_silent_zero(
    rig: Rig, bucket: Bucket
) -> None:
    # This store makes an empty object of it, and answers that all went well.
    answer = rig.run(f"s3://{bucket.name}/run", [rig.python, "-c", RENAMED, str(rig.target)])
    assert answer.code == 75, answer
    assert "not proven: weights" in answer.err
