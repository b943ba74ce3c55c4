"""Byte for byte what safetensors itself writes, and refused in the same words."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mountkit.writers import safetensors as ours

library = pytest.importorskip("safetensors", reason="safetensors is not installed")

if not hasattr(library, "TensorSpec"):
    pytest.skip("this safetensors has no TensorSpec", allow_module_level=True)

SIZES = {"complex64": 8, "float4_e2m1fn_x2": 1, "bool": 1, "bfloat16": 2}
# Control characters, quotes, and what JSON need not escape but some writers do.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from('"\\\b\f\n\r\t\0\x1f\x7f\x80\u2028\u2029/\ufeff\U0001f600'),
    max_size=12,
) | st.sampled_from(["__metadata__", "", "model.layers.0.weight"])
SHAPES = st.lists(st.integers(0, 4), max_size=4)


def width(dtype: str) -> int:
    if dtype in SIZES:
        return SIZES[dtype]
    return 1 if dtype.startswith("float8") else int("".join(filter(str.isdigit, dtype))) // 8


class Memory:
    """Tensors as the frameworks hand them over, and their bytes, kept alive."""

    def __init__(self) -> None:
        self._kept = []

    def spec(self, dtype: str, shape, data: bytes, length: int | None = None):
        buffer = ctypes.create_string_buffer(data, len(data))
        self._kept.append(buffer)
        return library.TensorSpec(
            dtype=dtype,
            shape=shape,
            data_ptr=ctypes.addressof(buffer),
            data_len=len(data) if length is None else length,
        )


@st.composite
def tensors(draw, off: bool = False):
    memory, made = Memory(), {}
    for name in draw(st.lists(NAMES, unique=True, max_size=6)):
        dtype, shape = draw(st.sampled_from(ours.DTYPES)), draw(SHAPES)
        size = width(dtype)
        for count in shape:
            size *= count
        data = draw(st.binary(min_size=size, max_size=size))
        made[name] = memory.spec(dtype, shape, data)
        if off and draw(st.booleans()):
            made[name] = memory.spec(dtype, shape, data + b"more" * 10, draw(st.integers(0, 40)))
    return memory, made


def whole(layout: ours.Layout) -> bytes:
    return layout.header + b"".join(layout.views)


def outcome(make):
    """The bytes, or the class and words of the refusal."""
    try:
        return bytes(make())
    except Exception as error:  # noqa: BLE001 - whatever the library raises
        return type(error), str(error)


class TestLayout:
    @settings(max_examples=300)
    @given(tensors(), st.none() | st.dictionaries(NAMES, NAMES, max_size=1))
    def test_it_is_what_the_library_serializes(self, made, metadata):
        _, tensors = made
        expected = outcome(lambda: library.serialize(tensors, metadata=metadata))
        assert outcome(lambda: whole(ours.layout(tensors, metadata))) == expected

    @given(tensors(), st.dictionaries(NAMES, NAMES, min_size=2, max_size=6))
    def test_several_keys_of_metadata_have_no_order_and_the_rest_has(self, made, metadata):
        _, tensors = made
        tensors = {name: value for name, value in tensors.items() if name != "__metadata__"}
        expected = outcome(lambda: library.serialize(tensors, metadata=metadata))
        found = outcome(lambda: whole(ours.layout(tensors, metadata)))
        if isinstance(expected, tuple):
            assert found == expected
            return
        cut = 8 + int.from_bytes(expected[:8], "little")
        assert (found[:8], found[cut:], len(found)) == (expected[:8], expected[cut:], len(expected))
        headers = [json.loads(data[8:cut]) for data in (found, expected)]
        assert headers[0] == headers[1]
        assert headers[0].pop("__metadata__") == metadata
        assert list(headers[0]) == [name for name in headers[1] if name != "__metadata__"]

    @settings(max_examples=300)
    @given(tensors(off=True))
    def test_a_wrong_length_is_refused_in_the_librarys_words(self, made):
        _, tensors = made
        expected = outcome(lambda: library.serialize(tensors))
        assert outcome(lambda: whole(ours.layout(tensors))) == expected

    @pytest.mark.parametrize("dtype", ours.DTYPES)
    def test_every_dtype_has_its_name_and_its_width(self, dtype):
        memory = Memory()
        tensors = {"a": memory.spec(dtype, [3, 2], bytes(range(6 * width(dtype))))}
        assert whole(ours.layout(tensors)) == bytes(library.serialize(tensors))
        spec = tensors["a"]
        size, elements = ours._measure(spec.dtype, spec=True)
        assert size * 6 * (elements // 8) == spec.data_len * elements

    @pytest.mark.parametrize(
        ("tensors", "metadata"),
        [
            ([], None),
            ({"a": 5}, None),
            ({"a": {"dtype": "float32"}}, None),
            ({5: None}, None),
            ({}, {"a": 5}),
            ({}, {5: "a"}),
            ({}, ["a"]),
            ({}, {"a": "\udc80"}),
            ({}, {"\udc80": "a"}),
        ],
    )
    def test_what_makes_no_sense_is_refused_in_the_librarys_words(self, tensors, metadata):
        expected = outcome(lambda: library.serialize(tensors, metadata=metadata))
        assert isinstance(expected, tuple)
        assert outcome(lambda: whole(ours.layout(tensors, metadata))) == expected

    def test_names_that_are_no_text(self):
        tensors = {"\udc80": Memory().spec("int8", [0], b"")}
        with pytest.raises(UnicodeEncodeError):
            ours.layout(tensors)

    def test_a_shape_beyond_all_bounds(self):
        tensors = {"a": Memory().spec("int8", [2**62, 2**62], b"")}
        expected = outcome(lambda: library.serialize(tensors))
        assert "overflow" in expected[1]
        assert outcome(lambda: whole(ours.layout(tensors))) == expected

    def test_a_tensor_without_memory_is_an_error_and_no_crash(self):
        empty = library.TensorSpec(dtype="int8", shape=[0], data_ptr=0, data_len=0)
        nowhere = library.TensorSpec(dtype="int8", shape=[3], data_ptr=0, data_len=3)
        assert whole(ours.layout({"a": empty})) == bytes(library.serialize({"a": empty}))
        with pytest.raises(ValueError, match="'b' has 3 bytes"):
            ours.layout({"a": empty, "b": nowhere})

    def test_a_header_that_the_library_could_not_load(self, monkeypatch):
        tensors = {"a" * 100: Memory().spec("int8", [3], b"123")}
        header = len(ours.layout(tensors).header) - 8
        monkeypatch.setattr(ours, "LONGEST_HEADER", header)
        ours.layout(tensors)
        monkeypatch.setattr(ours, "LONGEST_HEADER", header - 1)
        with pytest.raises(library.SafetensorError, match="header too large"):
            ours.layout(tensors)

    def test_a_header_of_a_later_version(self, monkeypatch):
        monkeypatch.setattr(library, "serialize", lambda *_, **__: b"12345678{}")
        with pytest.raises(RuntimeError, match="pip install --upgrade mountkit"):
            ours.layout({"a": Memory().spec("int8", [0], b"")})

    def test_no_byte_of_a_tensor_is_copied(self):
        memory = Memory()
        tensors = {"a": memory.spec("int8", [9], b"123456789")}
        layout = ours.layout(tensors)
        memory._kept[0][0] = b"!"
        assert whole(layout).endswith(b"!23456789")
        assert layout.views[0].readonly


REAL = library.serialize


def old_serialize(tensors, metadata=None):
    """What safetensors before 0.8 takes, by means of the one that is installed."""
    memory = Memory()
    return REAL(
        {
            name: memory.spec(tensor["dtype"], tensor["shape"], tensor["data"])
            for name, tensor in tensors.items()
        },
        metadata=metadata,
    )


class TestBeforeTensorSpec:
    """The format of the tensors before safetensors 0.8."""

    @pytest.fixture(autouse=True)
    def old(self, monkeypatch):
        monkeypatch.setattr(library, "serialize", old_serialize)
        ours._measure.cache_clear()
        yield
        ours._measure.cache_clear()

    @pytest.mark.parametrize("dtype", ours.DTYPES)
    @pytest.mark.parametrize("shape", [(3, 2), (2,), (0, 3), ()])
    def test_every_dtype(self, dtype, shape):
        if dtype.startswith("float4") and not shape:
            shape = (1,)  # half a byte is no tensor
        size = width(dtype)
        for count in shape:
            size *= count
        tensors = {
            "b": {"dtype": dtype, "shape": shape, "data": os.urandom(size)},
            "a": {"dtype": "int64", "shape": [1], "data": b"12345678"},
        }
        expected = outcome(lambda: old_serialize(tensors, {"format": "pt"}))
        assert isinstance(expected, bytes)
        assert outcome(lambda: whole(ours.layout(tensors, {"format": "pt"}))) == expected

    @pytest.mark.parametrize("data", [b"1234567", b"", bytearray(8), "12345678", None])
    def test_wrong_data(self, data):
        tensors = {"a": {"dtype": "float32", "shape": [2], "data": data}}
        expected = outcome(lambda: old_serialize(tensors))
        assert isinstance(expected, tuple)
        assert outcome(lambda: whole(ours.layout(tensors))) == expected

    def test_a_missing_field(self):
        with pytest.raises(KeyError, match="dtype"):
            ours.layout({"a": {"shape": [0], "data": b""}})


class TestInPlace:
    def test_the_installed_one_renames(self):
        version = tuple(int(part) for part in library.__version__.split(".")[:2])
        assert ours.in_place(library.serialize_file) is (version < (0, 8))

    def test_one_that_writes_the_file_itself(self):
        calls = []

        def serialize_file(tensors, filename, metadata=None):
            calls.append(filename)
            Path(filename).write_bytes(library.serialize(tensors))

        assert [ours.in_place(serialize_file) for _ in range(3)] == [True] * 3
        assert len(calls) == 1, "it is tried once"
        assert not Path(calls[0]).parent.exists()

    def test_one_that_removes_the_file_first(self):
        def serialize_file(tensors, filename, metadata=None):
            Path(filename).unlink()
            Path(filename).write_bytes(library.serialize(tensors))

        assert ours.in_place(serialize_file) is False

    @pytest.mark.parametrize("error", [OSError("no room"), library.SafetensorError("no")])
    def test_one_that_fails(self, error):
        def serialize_file(*_, **__):
            raise error

        assert ours.in_place(serialize_file) is False

    def test_nowhere_to_try_it(self, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
        assert ours.in_place(lambda *_, **__: None) is False


class TestNames:
    def test_the_librarys_own_list_is_enough(self, monkeypatch):
        before = ours._names()
        ours._names.cache_clear()
        monkeypatch.setattr(ours, "DTYPES", ())
        assert ours._names() == before
        ours._names.cache_clear()

    def test_so_is_the_one_here(self, monkeypatch):
        before = ours._names()
        ours._names.cache_clear()
        monkeypatch.setattr("re.findall", lambda *_: [])
        assert ours._names() == before
        ours._names.cache_clear()
