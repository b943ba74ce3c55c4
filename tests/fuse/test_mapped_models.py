"""A model that is saved over the very file that it was loaded from, and is mapped to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import preloaded
from support.installed import needs

if TYPE_CHECKING:
    from support.rig import Answer, Bucket, Rig

needs("torch", "safetensors")

SAVED = """
import subprocess, sys, torch, safetensors.torch
path = sys.argv[1] + "/model"
"""
SAFETENSORS = """
safetensors.torch.save_file({"w": torch.ones(1000)}, path)
mapped = safetensors.torch.load_file(path)
safetensors.torch.save_file({"w": mapped["w"] * 2}, path)
"""
HELD = """
torch.save({"w": torch.ones(1000)}, path)
held = open(path, "rb")
torch.save({"w": torch.zeros(1000)}, path)
"""
READER = """
import sys, time
stream = open(sys.argv[1], "rb", 0)
print(len(stream.read(9)), flush=True)
time.sleep(60)
"""
ANOTHER = f"""
torch.save({{"w": torch.ones(1000)}}, path)
reader = subprocess.Popen([sys.executable, "-c", {READER!r}, path], stdout=subprocess.PIPE)
try:
    assert reader.stdout.readline() == b"9\\n"
    torch.save({{"w": torch.zeros(1000)}}, path)
finally:
    reader.kill()
    reader.wait()
"""
COPIED = """
safetensors.torch.save_file({"w": torch.ones(1000)}, path)
loaded = safetensors.torch.load(open(path, "rb").read())
safetensors.torch.save_file({"w": loaded["w"] * 2}, path)
"""


def run(rig: Rig, bucket: Bucket, text: str) -> Answer:
    command = preloaded.program(rig.python, rig.work, text, [str(rig.target)])
    return rig.run(f"s3://{bucket.name}/run", command)


@pytest.mark.uncached
@pytest.mark.fault(2)
@pytest.mark.parametrize(
    ("text", "who"),
    [
        (SAFETENSORS, "this process has it mapped"),
        (HELD, "this process has it open for reading"),
        (ANOTHER, "another program reads it"),
    ],
)
def test_a_file_that_is_read_takes_no_new_content_and_says_what_to_do(
    rig: Rig, bucket: Bucket, text: str, who: str
) -> None:
    answer = run(rig, bucket, SAVED + text)
    assert answer.code == 1, answer
    errors = [line for line in answer.err.splitlines() if line.startswith("PermissionError")]
    assert "model could not be opened for writing" in errors[-1], answer
    assert who in errors[-1], answer
    assert "Load it without mmap" in errors[-1]
    assert "not proven: model" in answer.err


@pytest.mark.cached
def test_where_the_library_renames_it_is_saved(rig: Rig, bucket: Bucket) -> None:
    answer = run(rig, bucket, SAVED + SAFETENSORS)
    assert answer.code == 0, answer


def test_what_was_loaded_without_a_mapping_is_saved(rig: Rig, bucket: Bucket) -> None:
    answer = run(rig, bucket, SAVED + COPIED)
    assert answer.code == 0, answer
    assert list(bucket.everything("run")) == ["model"]
