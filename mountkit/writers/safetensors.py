"""The safetensors format, written from start to end.

The header is the library's own: it is asked to serialize tensors of the same names and dtypes
without elements, and only their shapes and offsets are put in. Thus order, dtype names, escapes
and refusals are whatever the installed version does. Facts are from safetensors 0.3 to 0.8.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import math
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mountkit.writers.sequential_file import SequentialFile

LENGTH_BYTES = 8
ALIGNMENT = 8
# As in the library, which could not load a longer one.
LONGEST_HEADER = 100_000_000

# A TensorSpec tells its dtype in the format's words (F32) but wants it in the frameworks' when one
# is made. The library lists the latter when it is asked for one it does not know; these are those
# of 0.8, should a later one word its refusal otherwise.
DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "complex64",
)  # fmt: skip

# The last one shows what the library makes of a dtype with two elements a byte.
EMPTY_SHAPE = [0, 1]
PROBE_ELEMENTS = 8
_PROBE = (ctypes.c_char * 256)()
_READ_ONLY = 0x100
_memory = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)


@dataclass(frozen=True, slots=True)
class Layout:
    """A file as it will be: its header with the length before it, then the bytes of the tensors.

    The views show the memory of the tensors themselves, which has to stay where it is.
    """

    header: bytes
    views: tuple[memoryview, ...]


def layout(tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Layout:
    """Decide what the file for ``tensors`` holds, without a copy of any.

    ``tensors``: What ``safetensors.serialize_file`` is given: by name a ``TensorSpec``, or before
    0.8 a dict of ``dtype``, ``shape`` and ``data``. ``metadata``: As in
    ``safetensors.serialize_file``.

    Raises what the library raises for them, by itself: SafetensorError, TypeError, OverflowError or
    UnicodeError; ValueError if a tensor has a length but no memory; RuntimeError if the
    library's header is not one that is understood here.
    """
    import safetensors

    empty = _empty(tensors)
    draft = safetensors.serialize(empty, metadata=metadata)  # type: ignore[arg-type]
    if not tensors:
        # Nothing is to be put in; and with empty metadata 0.8 makes this no JSON.
        return Layout(bytes(draft), ())
    entries = json.loads(draft[LENGTH_BYTES:], object_pairs_hook=list)
    first = 0 if metadata is None else 1
    if len(entries) != first + len(tensors):
        raise RuntimeError(
            f"safetensors {safetensors.__version__} made a header that mountkit does not "
            "understand. Take a newer mountkit: pip install --upgrade mountkit"
        )
    # Metadata comes first, and a tensor may have the very same name.
    parts = [f"{_json(name)}:{_json(dict(value))}" for name, value in entries[:first]]
    views, offset = [], 0
    for name, entry in entries[first:]:
        found = _tensor(name, tensors[name], dict(entry))
        end = offset + found.view.nbytes
        real = {"shape": found.shape, "data_offsets": [offset, end]}
        parts.append(f"{_json(name)}:{_json({key: real.get(key, old) for key, old in entry})}")
        views.append(found.view)
        offset = end
    header = f"{{{','.join(parts)}}}".encode()
    header += b" " * (-len(header) % ALIGNMENT)
    if len(header) > LONGEST_HEADER:
        raise safetensors.SafetensorError("Error while serializing: header too large")
    return Layout(len(header).to_bytes(LENGTH_BYTES, "little") + header, tuple(views))


def write(content: Layout, file: SequentialFile) -> None:
    """Write a file that was decided on.

    Raises OSError if the file does not take it.
    """
    file.write(content.header)
    for view in content.views:
        file.write(view)


@functools.cache
def in_place(serialize_file: Callable[..., None]) -> bool:
    """Whether a library's own function writes the file it is told to, instead of renaming another.

    It is tried out on a file in a private directory. A function that cannot even do that is not
    one to rely on.
    """
    import safetensors

    spec = hasattr(safetensors, "TensorSpec")
    tensors = {"probe": _made("F32" if spec else "float32", [1], 4, spec=spec)}
    try:
        with tempfile.TemporaryDirectory(prefix="mountkit-") as folder:
            path = Path(folder) / "probe.safetensors"
            # As long as it is open, no other file can get its inode.
            with path.open("wb") as before:
                serialize_file(tensors, str(path))
                return os.path.samestat(path.stat(), os.fstat(before.fileno()))
    except (OSError, safetensors.SafetensorError):
        return False


@dataclass(frozen=True, slots=True)
class _Tensor:
    shape: list[int]
    view: memoryview


def _tensor(name: str, tensor: Any, entry: dict[str, Any]) -> _Tensor:
    """One tensor, whose header entry without elements is ``entry``; its length is checked."""
    import safetensors

    spec = _is_spec(tensor)
    if spec:
        dtype, shape, size = tensor.dtype, list(tensor.shape), tensor.data_len
    else:
        dtype, shape, size = tensor["dtype"], list(tensor["shape"]), len(tensor["data"])
    needed, elements = _measure(dtype, spec=spec)
    if needed and math.prod(shape) * needed != size * elements:
        # It refuses this, in its own words, before it copies anything.
        safetensors.serialize({name: tensor})
    if not spec:
        if shape:
            # Two elements of less than a byte are one for the framework.
            shape[-1] *= entry["shape"][-1]
        return _Tensor(shape, memoryview(tensor["data"]))
    if size and not tensor.data_ptr:
        raise ValueError(f"The tensor {name!r} has {size} bytes, and no memory that holds them.")
    return _Tensor(shape, _memory(tensor.data_ptr, size, _READ_ONLY) if size else memoryview(b""))


def _is_spec(tensor: Any) -> bool:
    return hasattr(tensor, "data_ptr")


def _empty(tensors: Any) -> Any:
    """The same without elements; whatever is wrong with them is left for the library to refuse."""
    if not isinstance(tensors, dict):
        return tensors
    empty = {}
    for name, tensor in tensors.items():
        if _is_spec(tensor):
            empty[name] = _made(tensor.dtype, EMPTY_SHAPE, 0, spec=True)
        elif isinstance(tensor, dict) and isinstance(tensor.get("data"), bytes):
            changes = {"shape": EMPTY_SHAPE, "data": b""}
            empty[name] = {key: changes.get(key, value) for key, value in tensor.items()}
        else:
            empty[name] = tensor
    return empty


def _made(dtype: str, shape: list[int], size: int, *, spec: bool) -> Any:
    """A tensor in the form that the library takes, with ``size`` bytes of zeros."""
    if not spec:
        return {"dtype": dtype, "shape": shape, "data": bytes(size)}
    import safetensors

    return safetensors.TensorSpec(
        dtype=_names().get(dtype, dtype),
        shape=shape,
        data_ptr=ctypes.addressof(_PROBE),
        data_len=size,
    )


@functools.cache
def _names() -> dict[str, str]:
    """The frameworks' word for each dtype of the format."""
    import safetensors

    def made(name: str) -> Any:
        return safetensors.TensorSpec(dtype=name, shape=[], data_ptr=0, data_len=0)

    try:
        made("")
        listed = ""
    except safetensors.SafetensorError as error:
        listed = str(error).partition("Supported dtypes:")[2]
    names = {}
    for name in [*re.findall(r"\w+", listed), *DTYPES]:
        with contextlib.suppress(safetensors.SafetensorError):
            names[made(name).dtype] = name
    return names


@functools.cache
def _measure(dtype: str, *, spec: bool) -> tuple[int, int]:
    """How many bytes how many elements of a dtype have; (0, 0) if the library does not check it."""
    import safetensors

    for size in range(len(_PROBE)):
        probe = _made(dtype, [PROBE_ELEMENTS], size, spec=spec)
        with contextlib.suppress(safetensors.SafetensorError):
            safetensors.serialize({"probe": probe})
            return size, math.prod(probe.shape) if spec else PROBE_ELEMENTS
    return 0, 0


def _json(content: Any) -> str:
    """JSON as serde_json writes it."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
