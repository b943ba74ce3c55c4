"""What a save does with files, as data: the doctor tries it, the README and the tests show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """Something a save may do with a file. ``matters`` says to whom."""

    name: str
    does: str
    matters: str
    essential: bool = False


OPERATIONS: tuple[Operation, ...] = (
    Operation("mkdir", "make a directory", "every checkpoint is one", essential=True),
    Operation("write", "write a new file from start to end", "every file is", essential=True),
    Operation("fsync", "fsync the file being written", "reports a failed upload", essential=True),
    Operation(
        "fork-close",
        "close a file that a forked process holds too",
        "data loaders fork while a save is under way",
        essential=True,
    ),
    Operation(
        "overwrite",
        "write a file that is there anew",
        "a checkpoint that is saved again, logs, the model card",
        essential=True,
    ),
    Operation(
        "unlink", "remove a file", "old checkpoints, shards of an earlier save", essential=True
    ),
    Operation(
        "rmtree",
        "remove a directory once it is empty",
        "`rm -r`, `find -delete`; any Python below mountkit removes trees all the same",
    ),
    Operation("rename", "rename a file", "safetensors 0.8, FSDP and DCP rename what they wrote"),
    Operation("chmod", "change a file's mode", "safetensors 0.8 does after each save"),
    Operation(
        "seek", "write in the middle of a file", "HDF5, SQLite, zip archives written in place"
    ),
    Operation("append", "append to a file that is there", "TensorBoard, logs of a resumed run"),
    Operation(
        "symlink", "make a symbolic link", "Composer and Lightning link latest to a checkpoint"
    ),
    Operation("link", "make a hard link", "a few libraries save a copy of a file that way"),
    Operation(
        "overwrite-mapped",
        "write a file anew that a program has mapped",
        "a model is loaded with mmap, and saved over its own file",
    ),
)

NAMES = frozenset(operation.name for operation in OPERATIONS)
