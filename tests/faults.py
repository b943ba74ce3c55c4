"""The fault matrix of tests/README.md, made from the marks of the tests.

python tests/faults.py           print it
python tests/faults.py --write   put it into tests/README.md, between the two comments
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parent
README = TESTS / "README.md"
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"

#: Every fault, and what becomes of a run.
FAULTS = {
    1: ("safetensors renames what it wrote", "weights save on Mountpoint all the same"),
    2: ("a library swallows the error of a failed upload", "an error that names the file"),
    3: ("`fsync` does nothing", "the store is asked"),
    4: ("the job ends before anything is uploaded", "the drain waits, or the code is not 0"),
    5: ("SIGTERM strands what was not uploaded", "drained within the deadline, or named"),
    6: ("the daemon is killed between two saves", "mounted again, nothing lost"),
    7: ("the daemon is killed in the middle of a save", "never proven torn; saved once more"),
    8: ("the daemon hangs", "seen, cut off, replaced"),
    9: ("the target is in use, stale or somebody else's", "repaired, or refused"),
    10: ("the daemon's queue reads empty too early", "it is never the proof"),
    11: ("a torn file comes back after a restart", "set aside, or unproven"),
    12: ("empty cache records make rclone delete data", "mended before it starts"),
    13: ("other options orphan the cache", "pinned, or refused"),
    14: ("an upload fails again and again", "its error is told, and the wait has an end"),
    15: ("the cache's disk is full", "what is proven leaves; said so; nothing proven is lost"),
    16: ("a file of more than 10,000 parts", "the part size is set from `largest_file`"),
    17: ("too many open writers on Mountpoint", "the memory target leaves room for 16"),
    18: ("credentials are missing, wrong or expire", "said which, with the store's words"),
    19: ("no bucket, another region, a missing right", "named before the first step"),
    20: ("rotation removes the wrong checkpoint", "removed by step, after proof"),
    21: ("rotation silently deletes nothing", "deletion is allowed on the mount"),
    22: ("the newest directory is empty or partial", "only proven ones are candidates"),
    23: ("a first run that resumes", "starts clean"),
    24: ("the optimizer's state is missing", "refused on resume"),
    25: (
        "a checkpoint saved on SIGTERM",
        "proven, of all ranks if one of them was sent it; never one that is not complete",
    ),
    26: ("a model saved after the training", "proven by the drain"),
    27: (
        "another rank's file comes late, or never",
        "the manifest waits for it, or is not written",
    ),
    28: ("several nodes write the same keys", "refused before the first step"),
    29: ("sharded saves rename a file", "work on both; DeepSpeed is refused on Mountpoint"),
    30: (
        "TensorBoard appends",
        "written locally and copied whole; without that, refused on Mountpoint",
    ),
    31: ("a directory is not seen on another node", "the store is asked"),
    32: ("an object is altered or deleted after the proof", "`verify` names it, `latest` skips it"),
    33: ("the store answers 500 or 503, or resets", "tried again within the deadline"),
    34: ("the store is away for a while", "waited for; saved once more if need be"),
    35: ("the clock is wrong", "said so"),
    36: ("two runs, one prefix", "the second is refused, a stale one stopped; it does not count"),
    37: ("the supervisor is killed", "the next one takes the mount over"),
    38: ("a PID is used again", "nobody else is ever signalled"),
    39: ("strange names, thousands of files", "kept, or refused by name"),
    40: ("a file is open at the unmount", "bounded; lazily, after the drain"),
    41: ("a store takes Mountpoint's rename for an upload", "named, never proven"),
    47: (
        "symbolic and hard links in `output_dir`",
        "symbolic ones kept on rclone; the others refused by name, and not taken for an ill mount",
    ),
    48: ("two trainings share a place", "each one's own come first; told at the start"),
    49: ("a directory is gone with its last file", "trees are removed as on a disk"),
    50: ("a child process comes past the hooks", "it saves well, or what it lost is named"),
    42: ("a file misses the mount again under the same name", "named each time"),
    43: (
        "the job's working directory lies in the target",
        "stepped into the mount, or refused before anything runs",
    ),
    44: ("a file is removed or replaced while it is open", "not missed"),
    45: ("an older object is renamed", "not missed; a moved checkpoint stays proven"),
    46: ("a program swallows what Mountpoint refused", "what lost content is named, 75"),
}


def numbers(node: ast.AST) -> set[int]:
    """The faults that the decorators of a test or a class name."""
    found: set[int] = set()
    for mark in getattr(node, "decorator_list", ()):
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
            found.update(ast.literal_eval(argument) for argument in mark.args)
    return found


def collect() -> dict[int, dict[str, int]]:
    """How many tests each file has for each fault."""
    found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted(TESTS.rglob("test_*.py")):
        name = path.relative_to(TESTS).as_posix()
        tree = ast.parse(path.read_text())
        for outer in tree.body:
            inherited = numbers(outer) if isinstance(outer, ast.ClassDef) else set()
            for test in outer.body if isinstance(outer, ast.ClassDef) else [outer]:
                if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                    for number in numbers(test) | inherited:
                        found[number][name] += 1
    return found


def table() -> str:
    """The matrix, as Markdown."""
    found = collect()
    lines = ["| # | fault | what becomes of it | tests |", "|---|---|---|---|"]
    for number, (fault, outcome) in FAULTS.items():
        files = found.get(number, {})
        # The suite on real mounts says most, and the table is for people.
        real = [name for name in files if name.startswith("fuse/")] or list(files)
        shown = ", ".join(f"`{name}`" for name in real[:3])
        count = sum(files.values())
        cells = (outcome, f"{count}: {shown}") if files else ("not yet", "")
        lines.append(f"| F{number} | {fault} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def renewed(readme: str) -> str:
    """The README with the matrix as it is now."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        README.write_text(renewed(README.read_text()))
    else:
        sys.stdout.write(table() + "\n")
