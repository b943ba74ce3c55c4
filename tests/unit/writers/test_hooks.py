"""Which saves go through a sequential file: those below a mount, while it is there; no other."""

from __future__ import annotations

import errno
import functools
import importlib
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import mountkit
from mountkit.state.write_journal import Journal
from mountkit.store.checksums import digest_file
from mountkit.writers import hooks as module
from mountkit.writers import safetensors as format_
from mountkit.writers.hooks import Hooks, Place, target_of
from mountkit.writers.import_hook import Watcher
from mountkit.writers.sequential_file import SequentialFile

if TYPE_CHECKING:
    import numpy as np  # noqa: TC004 - the fixture below loads them
    import safetensors.numpy
    import safetensors.torch  # noqa: TC004
    import torch  # noqa: TC004


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """Load them for whoever runs these tests, and not for each worker that only collects them."""
    names = {"torch": "torch", "np": "numpy", "safetensors": "safetensors"}
    for name, library in names.items():
        globals()[name] = pytest.importorskip(library, reason=f"{library} is not installed")
    for name in ("safetensors.numpy", "safetensors.torch"):
        importlib.import_module(name)


def functions() -> list:
    return [
        safetensors.torch.serialize_file,
        safetensors.numpy.serialize_file,
        torch.save,
        torch.serialization.save,
    ]


@pytest.fixture(autouse=True)
def untouched(libraries):
    before = functions()
    yield
    assert functions() == before
    assert not any(isinstance(finder, Watcher) for finder in sys.meta_path)


@pytest.fixture
def mounted() -> dict:
    return {"now": True}


@pytest.fixture
def place(tmp_path, mounted) -> Place:
    for folder in ("mnt", "state", "local"):
        (tmp_path / folder).mkdir()
    return Place(str(tmp_path / "mnt"), tmp_path / "state", lambda: mounted["now"])


@pytest.fixture
def hooks(place):
    made = Hooks()
    made.add(place)
    yield made
    for _ in made._places:
        made.remove(place.path)


@pytest.fixture
def mnt(hooks, tmp_path) -> Path:
    return tmp_path / "mnt"


@pytest.fixture
def journal(place) -> Journal:
    return Journal(place.directory)


def everything() -> dict:
    """Every kind of tensor that a save may hold."""
    tensors = {
        "f32": torch.randn(7, 5),
        "bf16": torch.randn(3, 3).bfloat16(),
        "fp8": torch.randn(9).to(torch.float8_e4m3fn),
        "c64": torch.randn(2, 2, dtype=torch.complex64),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.5),
        "i64": torch.arange(6).reshape(2, 3).t().contiguous(),
        'näme "x"\n\x01\u2028': torch.arange(3, dtype=torch.int16),
    }
    if hasattr(torch, "float4_e2m1fn_x2"):
        raw = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
        tensors["fp4"] = raw.view(torch.float4_e2m1fn_x2)
    if hasattr(torch, "float8_e8m0fnu"):
        tensors["e8m0"] = torch.arange(5, dtype=torch.uint8).view(torch.float8_e8m0fnu)
    return tensors


def matches(journal: Journal, root: Path) -> bool:
    """Whether every file below ``root`` is noted as done, with its size and checksum."""
    words = journal.read()
    for path in root.rglob("*"):
        if path.is_file():
            digest, word = digest_file(path), words[str(path.relative_to(root))]
            noted = (word.size, word.crc64nvme, word.problem)
            if noted != (digest.size, digest.values["crc64nvme"], ""):
                return False
    return True


class TestSafetensors:
    def test_a_torch_save_is_byte_for_byte_the_librarys(self, mnt, tmp_path, journal):
        tensors = everything()
        safetensors.torch.save_file(tensors, tmp_path / "local" / "m", metadata={"format": "pt"})
        safetensors.torch.save_file(tensors, mnt / "m", metadata={"format": "pt"})
        assert (mnt / "m").read_bytes() == (tmp_path / "local" / "m").read_bytes()
        assert list(journal.read()) == ["m"]
        assert matches(journal, mnt)

    def test_a_numpy_save_too(self, mnt, tmp_path, journal):
        tensors = {
            "a": np.arange(6.0).reshape(2, 3),
            "big-endian": np.arange(3, dtype=">i4"),
            "empty": np.zeros((0, 2), dtype="f2"),
            "scalar": np.array(3.5, dtype="f4"),
        }
        safetensors.numpy.save_file(tensors, str(tmp_path / "local" / "m"))
        safetensors.numpy.save_file(tensors, str(mnt / "m"))
        assert (mnt / "m").read_bytes() == (tmp_path / "local" / "m").read_bytes()
        assert matches(journal, mnt)

    def test_several_keys_of_metadata(self, mnt):
        metadata = {f"key-{number}": "wert ü" for number in range(20)}
        safetensors.torch.save_file({"a": torch.ones(3)}, mnt / "m", metadata=metadata)
        with safetensors.safe_open(mnt / "m", "pt") as stored:
            assert stored.metadata() == metadata
            assert torch.equal(stored.get_tensor("a"), torch.ones(3))

    def test_tied_tensors(self, mnt, tmp_path):
        model = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])
        model[1].weight = model[0].weight
        with pytest.raises(RuntimeError, match="share memory"):
            safetensors.torch.save_file(model.state_dict(), mnt / "m")
        assert not (mnt / "m").exists()
        safetensors.torch.save_model(model, str(tmp_path / "local" / "m"))
        safetensors.torch.save_model(model, str(mnt / "m"))
        assert (mnt / "m").read_bytes() == (tmp_path / "local" / "m").read_bytes()

    @pytest.mark.parametrize(
        ("tensor", "metadata", "error"),
        [
            (lambda: torch.ones(4, 4).t()[:2], None, "non contiguous"),
            (lambda: "no tensor", None, "invalid"),
            (lambda: torch.ones(2), {"epoch": 3}, "metadata"),
        ],
    )
    def test_what_the_library_refuses_leaves_the_old_file_alone(
        self, mnt, journal, tensor, metadata, error
    ):
        safetensors.torch.save_file({"a": torch.ones(3)}, mnt / "m")
        before, words = (mnt / "m").read_bytes(), journal.read()
        with pytest.raises((ValueError, TypeError), match=error):
            safetensors.torch.save_file({"a": tensor()}, mnt / "m", metadata)
        assert (mnt / "m").read_bytes() == before
        assert journal.read() == words

    def test_nothing_is_renamed_and_nothing_else_is_made(self, mnt):
        (mnt / "m").write_bytes(b"x" * 10_000)
        inode = (mnt / "m").stat().st_ino
        safetensors.torch.save_file({"a": torch.ones(3)}, mnt / "m")
        assert (mnt / "m").stat().st_ino == inode
        assert list(mnt.iterdir()) == [mnt / "m"]
        assert torch.equal(safetensors.torch.load_file(mnt / "m")["a"], torch.ones(3))

    def test_a_library_that_writes_in_place_is_left_alone(self, mnt, journal, monkeypatch):
        monkeypatch.setattr(format_, "in_place", lambda _: True)
        safetensors.torch.save_file({"a": torch.ones(3)}, mnt / "m")
        assert (mnt / "m").exists()
        assert journal.read() == {}

    def test_an_argument_of_a_later_version(self, hooks, mnt, journal):
        seen = []
        late = module._serialize_file(hooks, lambda *args, **more: seen.append((args, more)))
        late({}, mnt / "m", None, fsync=True)
        assert seen == [(({}, mnt / "m"), {"metadata": None, "fsync": True})]
        assert journal.read() == {}


class TestTorch:
    @pytest.mark.parametrize("new", [True, False])
    def test_what_is_saved_is_loaded(self, mnt, journal, new):
        state = {"step": 3, "state": everything(), "big": torch.randn(400, 400)}
        if not new:
            # The older format has no tensors of the newer dtypes.
            for name in ("fp8", "fp4", "e8m0"):
                state["state"].pop(name, None)
        state["view"] = state["big"][3:5]
        torch.save(state, mnt / "optimizer.pt", _use_new_zipfile_serialization=new)
        found = torch.load(mnt / "optimizer.pt")
        assert found["step"] == 3
        assert found["state"].keys() == state["state"].keys()
        for name, tensor in state["state"].items():
            other = found["state"][name]
            assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape)
            raw = [bytes(one.contiguous().untyped_storage()) for one in (tensor, other)]
            assert raw[0] == raw[1]
        assert torch.equal(found["big"], state["big"])
        assert found["view"].untyped_storage().data_ptr() == found["big"].data_ptr()
        assert matches(journal, mnt)

    def test_any_way_to_call_it(self, mnt, journal):
        torch.save(obj=1, f=str(mnt / "a"))
        torch.serialization.save(2, mnt / "b", pickle)
        torch.save(3, mnt / "ü")
        assert [torch.load(mnt / name) for name in ("a", "b", "ü")] == [1, 2, 3]
        assert set(journal.read()) == {"a", "b", "ü"}

    def test_a_file_object_is_the_callers(self, mnt, journal):
        with (mnt / "a").open("wb") as stream:
            torch.save(1, stream)
        assert torch.load(mnt / "a") == 1
        assert journal.read() == {}

    def test_what_cannot_be_pickled_is_noted_as_broken_off(self, mnt, journal):
        with pytest.raises((AttributeError, pickle.PicklingError)):
            torch.save(lambda: 0, mnt / "a")
        assert journal.read()["a"].problem.startswith("its writing was broken off by ")

    @pytest.mark.parametrize("new", [True, False])
    @pytest.mark.parametrize("after", [0, 1, 2, 3])
    def test_a_failed_write_comes_home_through_torch(self, mnt, journal, monkeypatch, new, after):
        count = iter(range(100))
        write = os.write

        def full(descriptor, view):
            if next(count) >= after and isinstance(view, memoryview):
                raise OSError(errno.ENOSPC, "no room")
            return write(descriptor, view)

        broken(monkeypatch, write=full)
        with pytest.raises(OSError, match="a could not be written: no room") as caught:
            torch.save(torch.zeros(3_000_000), mnt / "a", _use_new_zipfile_serialization=new)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(mnt / "a"))
        assert journal.read()["a"].problem == "it could not be written: no room"

    @pytest.mark.parametrize("call", ["fsync", "close"])
    def test_a_failed_upload_comes_home(self, mnt, journal, monkeypatch, call):
        def fail(descriptor):
            if call == "close":
                os.close(descriptor)
            raise OSError(errno.EIO, "access denied")

        broken(monkeypatch, **{call: fail})
        for save in (
            functools.partial(torch.save, 1),
            functools.partial(safetensors.torch.save_file, {"a": torch.ones(3)}),
        ):
            with pytest.raises(OSError, match="a could not be uploaded: access denied"):
                save(mnt / "a")
            assert journal.read()["a"].problem == "it could not be uploaded: access denied"


def broken(monkeypatch, **calls) -> None:
    """Have every sequential file use other system calls."""
    from mountkit.writers.sequential_file import Calls

    def make(*arguments, **options) -> SequentialFile:
        return SequentialFile(*arguments, **{**options, "calls": Calls(**calls)})

    monkeypatch.setattr(module, "SequentialFile", make)


class TestScope:
    def places(self, *paths: str) -> list[Place]:
        return [Place(path, Path("/state"), lambda: True) for path in paths]

    def test_the_innermost_place_and_what_lies_below_it(self, tmp_path):
        root = os.path.realpath(tmp_path)
        places = self.places(root, f"{root}/a", f"{root}/a/b")
        for path, home, name in [
            (f"{root}/m", root, "m"),
            (f"{root}/a/m", f"{root}/a", "m"),
            (f"{root}/a/b/c/m", f"{root}/a/b", "c/m"),
            (f"{root}/a-2/m", root, "a-2/m"),
            (f"{root}/a/../m", root, "m"),
            (f"{root}/a", root, "a"),
        ]:
            for given in (path, Path(path)):
                target = target_of(places, given)
                assert (target.place.path, target.name) == (home, name)
                assert target.path == f"{home}/{name}"

    @pytest.mark.parametrize(
        "path",
        [
            "",
            ".",
            "/",
            "m",
            "/mnt",
            "/mnt/",
            "/mnt/..",
            "/mnt/.",
            "/mnt-2/m",
            "/mn/m",
            "/mnt/../m",
            b"/mnt/m",
            5,
            None,
            sys.stdout,
            "/mnt/\0/m",
        ],
    )
    def test_anything_else_is_the_librarys(self, path):
        assert target_of(self.places("/mnt"), path) is None

    def test_relative_paths_and_links(self, tmp_path, monkeypatch):
        root = os.path.realpath(tmp_path)
        (tmp_path / "mnt" / "sub").mkdir(parents=True)
        (tmp_path / "link").symlink_to("mnt/sub")
        (tmp_path / "mnt" / "out").symlink_to(tmp_path)
        places = self.places(f"{root}/mnt")
        monkeypatch.chdir(tmp_path / "mnt")
        assert target_of(places, "m").name == "m"
        assert target_of(places, "../link/m").name == "sub/m"
        assert target_of(places, tmp_path / "link" / "m").name == "sub/m"
        assert target_of(places, tmp_path / "mnt" / "out" / "m") is None

    def test_a_directory_that_is_gone(self, tmp_path, monkeypatch):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert target_of(self.places(str(gone)), "m") is None

    def test_outside_of_it_nothing_changes(self, mnt, tmp_path, journal):
        before = (tmp_path / "local" / "m").parent.stat()
        safetensors.torch.save_file({"a": torch.ones(3)}, tmp_path / "local" / "m")
        torch.save(1, tmp_path / "local" / "n")
        assert torch.load(tmp_path / "local" / "n") == 1
        assert before.st_ino == (tmp_path / "local").stat().st_ino
        assert journal.read() == {}

    def test_a_mount_that_is_gone_is_written_as_ever(self, mnt, mounted, journal):
        mounted["now"] = False
        torch.save(1, mnt / "a")
        safetensors.torch.save_file({"a": torch.ones(3)}, mnt / "m")
        assert journal.read() == {}
        mounted["now"] = True
        torch.save(1, mnt / "a")
        assert set(journal.read()) == {"a"}

    def test_the_reason_is_asked_for_by_the_name_in_the_mount(self, tmp_path, monkeypatch):
        (tmp_path / "mnt" / "c").mkdir(parents=True)
        asked = []
        hooks = Hooks()
        place = Place(
            os.path.realpath(tmp_path / "mnt"),
            tmp_path,
            lambda: True,
            lambda name: asked.append(name) or "the store refused it",
        )
        broken(monkeypatch, fsync=lambda _: os.read(-1, 1))
        hooks.add(place)
        try:
            with pytest.raises(OSError, match="c/a could not be uploaded: the store refused it"):
                torch.save(1, tmp_path / "mnt" / "c" / "a")
        finally:
            hooks.remove(place.path)
        assert asked == ["c/a"]


class TestInstalling:
    def test_each_function_is_replaced_and_restored(self, place):
        before, hooks = functions(), Hooks()
        hooks.add(place)
        during = functions()
        assert not set(before) & set(during)
        assert torch.save is torch.serialization.save
        assert pickle.loads(pickle.dumps(torch.save)) is torch.save
        hooks.remove(place.path)
        assert functions() == before
        hooks.remove(place.path)
        assert functions() == before

    def test_the_last_one_to_go_undoes_it(self, place, tmp_path):
        before, hooks = functions(), Hooks()
        other = Place(str(tmp_path / "other"), tmp_path, lambda: True)
        for one in (place, other, place):
            hooks.add(one)
        during = functions()
        for path in (place.path, other.path, "/unknown"):
            hooks.remove(path)
            assert functions() == during
            assert hooks.target(f"{place.path}/m") is not None
        hooks.remove(place.path)
        assert functions() == before
        assert hooks.target(f"{place.path}/m") is None

    def test_whoever_came_after_stays_and_is_passed_through(self, place, tmp_path, monkeypatch):
        before, hooks, seen = functions(), Hooks(), []
        hooks.add(place)
        ours = torch.save

        def theirs(obj, f, *args):
            seen.append(f)
            return ours(obj, f, *args)

        monkeypatch.setattr(torch, "save", theirs)
        hooks.remove(place.path)
        assert torch.save is theirs
        assert torch.serialization.save is before[3]
        target = tmp_path / "mnt" / "a"
        torch.save(1, target)
        assert Journal(place.directory).read() == {}
        hooks.add(place)
        torch.save(2, target)
        assert torch.load(target) == 2
        assert Journal(place.directory).read()["a"].problem == ""
        hooks.remove(place.path)
        assert torch.save is theirs
        torch.save(3, target)
        assert [seen[0], seen[2]] == [target, target]
        assert torch.load(target) == 3
        monkeypatch.undo()
        torch.save = before[2]

    @staticmethod
    def mount(tmp_path, backend: str) -> SimpleNamespace:
        for folder in ("mnt", "state"):
            (tmp_path / folder).mkdir()
        return SimpleNamespace(
            path=os.path.realpath(tmp_path / "mnt"),
            directory=SimpleNamespace(path=tmp_path / "state"),
            spec=SimpleNamespace(backend=backend),
            control=lambda: SimpleNamespace(
                explain=lambda name: f"the log on {name}", emptied=lambda _: 0.0
            ),
        )

    def test_a_mount_that_cannot_rename_is_installed(self, tmp_path, monkeypatch):
        mount = self.mount(tmp_path, "mountpoint")
        entries = {mount.path: object()}
        monkeypatch.setattr("mountkit.linux.mount_table.at", entries.get)
        mountkit.writers.install(mount)
        try:
            torch.save(1, f"{mount.path}/a")
            with pytest.raises(
                OSError, match="b/c could not be opened for writing: the log on b/c"
            ):
                torch.save(1, f"{mount.path}/b/c")
            entries.clear()
            torch.save(1, f"{mount.path}/d")
        finally:
            mountkit.writers.uninstall(mount)
        torch.save(1, f"{mount.path}/e")
        assert set(Journal(tmp_path / "state").read()) == {"a", "b/c"}

    def test_a_mount_that_can_rename_needs_nothing(self, tmp_path):
        before, mount = functions(), self.mount(tmp_path, "rclone")
        mountkit.writers.install(mount)
        assert functions() == before
        mountkit.writers.uninstall(mount)
        assert functions() == before

    def test_many_threads(self, place, tmp_path):
        before, hooks, wrong = functions(), Hooks(), []

        def work(number: int) -> None:
            path = tmp_path / "mnt" / str(number)
            for turn in range(20):
                hooks.add(place)
                torch.save(turn, path)
                if torch.load(path) != turn or hooks.target(path) is None:
                    wrong.append(number)
                hooks.remove(place.path)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert functions() == before
        assert len(Journal(place.directory).read()) == 8


FORKED = """
import json, os, pathlib, signal, threading
from mountkit.writers.hooks import Hooks, Place

hooks, held, done = Hooks(), threading.Event(), threading.Event()

def hold():
    with hooks._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    hooks.add(Place("/mnt", pathlib.Path("/"), lambda: True))
    os._exit(0)
status = os.waitpid(pid, 0)[1]
done.set()
thread.join()
print(json.dumps({"status": status}))
"""


def test_a_forked_child_is_not_held_up_by_another_threads_lock():
    assert in_a_process_of_its_own(FORKED) == {"status": 0}


LATER = """
import importlib.util, json, os, pathlib, sys
from mountkit.writers.hooks import Hooks, Place

root = os.path.realpath(sys.argv[1])
hooks = Hooks()
place = Place(root + "/mnt", pathlib.Path(root), lambda: True)
hooks.add(place)
said = {"imported": sorted({"torch", "safetensors", "numpy", "transformers"} & set(sys.modules))}
said["found"] = importlib.util.find_spec("safetensors.torch") is not None
from safetensors.torch import save_file
import safetensors.numpy, safetensors.torch, torch
said["loader"] = [
    type(module.__spec__.loader).__name__ for module in (torch, safetensors.torch)
] + [type(torch.__loader__).__name__]
save_file({"a": torch.ones(3)}, root + "/mnt/m")
torch.save(1, root + "/mnt/n")
hooks.remove(place.path)
save_file({"a": torch.ones(3)}, root + "/mnt/o")
torch.save(1, root + "/mnt/p")
from mountkit.state.write_journal import Journal
said["written"] = sorted(Journal(pathlib.Path(root)).read())
said["restored"] = [
    safetensors.torch.serialize_file is safetensors.serialize_file,
    safetensors.numpy.serialize_file is safetensors.serialize_file,
    torch.save is torch.serialization.save and not hasattr(torch.save, "__wrapped__"),
    hooks._watcher not in sys.meta_path,
]
print(json.dumps(said))
"""


def in_a_process_of_its_own(script: str, *arguments: object) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(mountkit.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_is_imported_later_is_replaced_then_and_nothing_is_imported_here(tmp_path):
    (tmp_path / "mnt").mkdir()
    said = in_a_process_of_its_own(LATER, tmp_path)
    assert said["imported"] == []
    assert said["found"] is True
    assert said["loader"] == ["SourceFileLoader"] * 3
    assert said["written"] == ["m", "n"]
    assert said["restored"] == [True] * 4


GROWTH = """
import json, os, pathlib, sys
import torch, safetensors.torch
from mountkit.writers.hooks import Hooks, Place

root = os.path.realpath(sys.argv[1])
hooks = Hooks()
hooks.add(Place(root, pathlib.Path(root), lambda: True))

def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) >> 10

def growth(save):
    save(small)
    # Forget the peak so far.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    save(large)
    return status("VmHWM") - before

small = {"a": torch.ones(10)}
large = {"a": torch.ones(300 << 18)}
assert status("VmRSS") > 300
print(json.dumps({
    "safetensors": growth(lambda x: safetensors.torch.save_file(x, root + "/m")),
    "zip": growth(lambda x: torch.save(x, root + "/n")),
    "legacy": growth(lambda x: torch.save(x, root + "/o", _use_new_zipfile_serialization=False)),
    "copy": growth(lambda x: x["a"].clone()),
}))
"""


def test_memory_stays_flat(tmp_path):
    grown = in_a_process_of_its_own(GROWTH, tmp_path)
    assert grown.pop("copy") > 250, "a copy would show"
    assert all(mebibytes < 64 for mebibytes in grown.values()), grown
    assert (tmp_path / "m").stat().st_size > 300 << 20


class TestTransformers:
    def test_a_sharded_model_with_tied_weights(self, mnt, tmp_path, journal):
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        config = transformers.GPT2Config(
            n_layer=2, n_embd=32, n_head=2, vocab_size=200, n_positions=16
        )
        model = transformers.GPT2LMHeadModel(config)
        assert model.lm_head.weight is model.transformer.wte.weight
        for folder in (tmp_path / "local", mnt):
            model.save_pretrained(folder, max_shard_size="50KB")
        names = sorted(path.name for path in mnt.iterdir())
        shards = [name for name in names if name.endswith(".safetensors")]
        assert len(shards) > 2
        assert names == sorted(path.name for path in (tmp_path / "local").iterdir())
        for name in names:
            assert (mnt / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
        words = journal.read()
        assert sorted(words) == shards
        for name in shards:
            digest = digest_file(mnt / name)
            assert (words[name].size, words[name].crc64nvme, words[name].problem) == (
                digest.size,
                digest.values["crc64nvme"],
                "",
            )
        loaded = transformers.GPT2LMHeadModel.from_pretrained(mnt)
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor)
