"""A file written from start to end: what is written, what is noted, and what every failure says."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mountkit
from mountkit.errors import MountkitError
from mountkit.state.write_journal import UNFINISHED, Journal
from mountkit.store import checksums
from mountkit.writers import sequential_file
from mountkit.writers.sequential_file import SYSTEM, Calls, SequentialFile

NAME = "checkpoint-1/model.safetensors"


class Kernel:
    """The system calls, written down; the call named ``broken`` fails from its ``after``-th on."""

    def __init__(self, broken: str = "", error: BaseException | None = None, after: int = 0):
        self.made: list[str] = []
        self.written: list[int] = []
        self.most = 1 << 30
        self._broken, self._error, self._after = broken, error, after

    def _note(self, call: str) -> None:
        self.made.append(call)
        if call == self._broken and self.made.count(call) > self._after:
            raise self._error

    def calls(self) -> Calls:
        def open_(path, flags, mode):
            self._note("open")
            return os.open(path, flags, mode)

        def write(descriptor, view):
            self._note("write")
            self.written.append(os.write(descriptor, view[: self.most]))
            return self.written[-1]

        def fsync(descriptor):
            self._note("fsync")
            os.fsync(descriptor)

        def close(descriptor):
            os.close(descriptor)
            self._note("close")

        return Calls(open_, write, fsync, close)


@pytest.fixture
def journal(tmp_path) -> Journal:
    (tmp_path / "state").mkdir()
    return Journal(tmp_path / "state")


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "mnt" / "checkpoint-1").mkdir(parents=True)
    return tmp_path / "mnt" / NAME


@pytest.fixture
def begin(path, journal, tmp_path):
    def begin(calls: Calls = SYSTEM, **options) -> SequentialFile:
        mount = str(tmp_path / "mnt")
        return SequentialFile(str(path), NAME, mount, journal, calls=calls, **options)

    return begin


def descriptors() -> list[str]:
    return sorted(link.name for link in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def no_descriptor_is_left():
    before = descriptors()
    yield
    assert descriptors() == before


def problem(journal: Journal) -> str:
    return journal.read()[NAME].problem


class TestWriting:
    def test_what_is_written_is_noted_with_its_checksum(self, begin, path, journal):
        with begin() as file:
            assert problem(journal) == UNFINISHED
            assert file.write(b"123") == 3
            assert file.write(memoryview(bytearray(b"456789"))) == 6
        assert path.read_bytes() == b"123456789"
        word = journal.read()[NAME]
        assert (word.size, word.problem) == (9, "")
        assert checksums.hex_of(word.crc64nvme) == "ae8b14860a799888"
        assert file.closed

    @given(
        st.lists(st.integers(0, 40).map(os.urandom), max_size=12),
        st.integers(1, 30),
        st.integers(1, 30),
        st.integers(1, 12),
    )
    def test_however_it_is_cut(self, tmp_path_factory, pieces, gather, chunk, most):
        folder = tmp_path_factory.mktemp("cut")
        kernel = Kernel()
        kernel.most = most
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequential_file, "GATHER_BYTES", gather)
            patch.setattr(sequential_file, "CHUNK_BYTES", chunk)
            file = SequentialFile(
                str(folder / "f"), "f", str(folder), Journal(folder), calls=kernel.calls()
            )
            with file:
                for piece in pieces:
                    assert file.write(piece) == len(piece)
        data = b"".join(pieces)
        assert (folder / "f").read_bytes() == data
        assert all(size <= min(chunk, most) for size in kernel.written)
        digest = checksums.digest_bytes(data)
        word = Journal(folder).read()["f"]
        assert (word.size, word.crc64nvme) == (digest.size, digest.values["crc64nvme"])

    def test_small_writes_are_gathered_and_large_ones_are_not_copied(self, begin, path):
        kernel = Kernel()
        large = bytearray(3 * sequential_file.CHUNK_BYTES + 5)
        with begin(kernel.calls()) as file:
            for _ in range(1000):
                file.write(b"x" * 100)
            file.write(large)
            file.write(b"end")
        assert kernel.written == [100_000, *[sequential_file.CHUNK_BYTES] * 3, 5, 3]
        assert path.read_bytes() == b"x" * 100_000 + large + b"end"

    def test_nothing_but_a_sequential_mount_can_do(self, begin):
        kernel = Kernel()
        with begin(kernel.calls()) as file:
            file.write(b"1")
            file.flush()
            file.write(b"2")
        assert kernel.made == ["open", "write", "write", "fsync", "close"]
        assert not any(hasattr(file, name) for name in ("fileno", "seek", "tell", "truncate"))

    def test_a_new_file_has_the_usual_mode_and_an_old_one_its_own(self, begin, path):
        old = os.umask(0o027)
        try:
            with begin() as file:
                file.write(b"1")
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        inode = path.stat().st_ino
        with begin():
            pass
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_ino) == (0o600, inode)
        assert path.read_bytes() == b""

    def test_a_program_started_meanwhile_does_not_inherit_it(self, begin):
        with begin() as file:
            assert fcntl.fcntl(file._descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC

    def test_finishing_twice_is_finishing_once(self, begin, journal):
        file = begin()
        file.write(b"1")
        file.close()
        file.finish()
        assert journal.read()[NAME].size == 1
        with pytest.raises(OSError, match="is closed"):
            file.write(b"2")
        with pytest.raises(OSError, match="is closed"):
            file.flush()


KINDS = [("open", "opened for writing"), ("write", "written")]
KINDS += [("fsync", "uploaded"), ("close", "uploaded")]


class TestFailing:
    @pytest.mark.parametrize(("call", "what"), KINDS)
    @pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.ENOTCONN])
    def test_every_call_says_which_file_and_what_to_do(
        self, begin, path, journal, call, what, number
    ):
        error = OSError(number, os.strerror(number))
        with pytest.raises(type(error)) as caught, begin(Kernel(call, error).calls()) as file:
            file.write(b"1" * 500_000)
        assert caught.value.errno == number
        assert caught.value.filename == str(path)
        mount = path.parents[1]
        assert caught.value.strerror == (
            f"{NAME} could not be {what}: {os.strerror(number)}. "
            f"See the mount: mountkit status {mount}"
        )
        assert problem(journal) == f"it could not be {what}: {os.strerror(number)}"

    @pytest.mark.parametrize(("call", "what"), KINDS)
    def test_the_reason_is_in_the_daemons_log(self, begin, journal, call, what):
        kernel = Kernel(call, OSError(errno.EIO, "Input/output error"))
        explain = {NAME: "the store says: Access Denied."}.__getitem__
        with pytest.raises(OSError, match=f"be {what}: the store says: Access Denied. See"):
            self.save(begin, kernel, explain)
        assert problem(journal) == f"it could not be {what}: the store says: Access Denied"

    @staticmethod
    def save(begin, kernel, explain):
        with begin(kernel.calls(), explain=explain) as file:
            file.write(b"1" * 500_000)

    @pytest.mark.parametrize("trouble", [PermissionError(errno.EACCES, "no"), MountkitError("no")])
    def test_a_log_that_cannot_be_read_hides_nothing(self, begin, trouble):
        def explain(_):
            raise trouble

        kernel = Kernel("fsync", OSError(errno.EIO, "Input/output error"))
        with pytest.raises(OSError, match="Input/output error"):
            begin(kernel.calls(), explain=explain).finish()

    def test_the_first_failure_is_the_one_that_counts(self, begin, journal):
        class Both(Kernel):
            def _note(self, call):
                super()._note(call)
                if call == "close":
                    raise OSError(errno.ENOTCONN, "gone")

        kernel = Both("fsync", OSError(errno.EIO, "not uploaded"))
        with pytest.raises(OSError, match="not uploaded"):
            begin(kernel.calls()).finish()
        assert kernel.made == ["open", "fsync", "close"]
        assert problem(journal) == "it could not be uploaded: not uploaded"

    def test_a_failed_write_is_not_papered_over(self, begin, journal):
        # torch goes on writing, and ends its archive, whatever the file says.
        kernel = Kernel("write", OSError(errno.EIO, "broken"), after=1)
        file = begin(kernel.calls())
        file.write(b"1" * sequential_file.CHUNK_BYTES)
        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                file.write(b"2" * sequential_file.CHUNK_BYTES)
        with pytest.raises(OSError, match="broken"):
            file.write(b"small")
        with pytest.raises(OSError, match="broken"):
            file.flush()
        with pytest.raises(OSError, match="broken"):
            file.finish()
        assert kernel.made == ["open", "write", "write", "close"]
        assert problem(journal) == "it could not be written: broken"
        with pytest.raises(OSError, match="broken"):
            file.finish()

    def test_a_mount_that_takes_nothing_does_not_hang_the_save(self, begin):
        calls = replace(SYSTEM, write=lambda *_: 0)
        with pytest.raises(OSError, match="took none of it") as caught, begin(calls) as file:
            file.write(b"1")
        assert caught.value.errno == errno.EIO

    @pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
    def test_a_save_that_breaks_off_is_no_save(self, begin, path, journal, kind):
        kernel = Kernel()
        file = begin(kernel.calls())

        def save():
            with file:
                file.write(b"1" * 500_000)
                raise kind("surprise " * 1000)

        with pytest.raises(kind, match="surprise"):
            save()
        assert kernel.made == ["open", "write", "close"], "it is not as if it were whole"
        assert problem(journal).startswith(f"its writing was broken off by {kind.__name__}: surpr")
        assert len(problem(journal)) < 500
        assert file.closed

    def test_an_interrupted_upload_is_unfinished(self, begin, journal):
        kernel = Kernel("fsync", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt), begin(kernel.calls()):
            pass
        assert problem(journal) == UNFINISHED
        assert kernel.made[-1] == "close"

    def test_closing_after_a_broken_block_hides_nothing(self, begin, journal):
        kernel = Kernel("close", OSError(errno.EIO, "broken"))
        with pytest.raises(ValueError, match="surprise"), begin(kernel.calls()):
            raise ValueError("surprise")
        assert problem(journal) == "its writing was broken off by ValueError: surprise"


class TestJournal:
    def test_what_cannot_be_noted_is_not_begun(self, begin, path, tmp_path):
        path.write_bytes(b"old")
        (tmp_path / "state").rmdir()
        with pytest.raises(OSError, match=r"written\.jsonl"):
            begin()
        assert path.read_bytes() == b"old"

    def test_an_end_that_cannot_be_noted_is_no_end(self, begin, journal, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "no room", "written.jsonl")

        file = begin()
        monkeypatch.setattr(journal, "done", full)
        with pytest.raises(OSError, match="no room"):
            file.finish()
        assert problem(journal) == UNFINISHED

    def test_a_failure_that_cannot_be_noted_is_raised_all_the_same(
        self, begin, journal, monkeypatch
    ):
        def full(*_):
            raise OSError(errno.ENOSPC, "no room", "written.jsonl")

        monkeypatch.setattr(journal, "failed", full)
        with pytest.raises(OSError, match="broken"):
            begin(Kernel("fsync", OSError(errno.EIO, "broken")).calls()).finish()
        assert problem(journal) == UNFINISHED


# A process of its own does the forking: the one that runs the tests has threads.
FORKING = """
import json, os, sys
from pathlib import Path
from mountkit.writers.sequential_file import SequentialFile
from mountkit.state.write_journal import Journal

folder = Path(sys.argv[1])
journal = Journal(folder)

def child(work):
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def leave():
    return 0

def write():
    try:
        file.write(b"from the child")
    except OSError as error:
        return 3 if "is written by process" in str(error) else 4

def unwind():
    try:
        with file:
            raise RuntimeError
    except RuntimeError:
        return 5 if file.closed else 6

def finish():
    try:
        file.finish()
    except OSError:
        return 7 if file.closed else 8

with SequentialFile(str(folder / "f"), "f", str(folder), journal) as file:
    file.write(b"begin ")
    codes = [child(work) for work in (leave, write, unwind, finish)]
    lines = (folder / "written.jsonl").read_text().count("{")
    file.write(b"end")
print(json.dumps({"codes": codes, "lines": lines}))
"""


def test_a_fork_while_it_is_open_is_none_of_its_business(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path)],
        env={"PYTHONPATH": str(Path(mountkit.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said = json.loads(done.stdout)
    assert said["codes"] == [0, 3, 5, 7]
    assert said["lines"] == 1, "the children noted nothing"
    assert (tmp_path / "f").read_bytes() == b"begin end"
    word = Journal(tmp_path).read()["f"]
    assert (word.size, word.problem) == (9, "")
    assert word.crc64nvme == checksums.digest_bytes(b"begin end").values["crc64nvme"]


class TestInUse:
    """Who keeps a file from taking a new content."""

    def test_a_file_that_is_mapped(self, tmp_path):
        path = tmp_path / "a model.bin"
        path.write_bytes(b"model")
        with path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        with mapped:
            assert "this process has it mapped" in sequential_file.in_use(str(path), "")
        assert sequential_file.in_use(str(path), "") == ""

    def test_one_that_is_open(self, tmp_path):
        path = tmp_path / "model.bin"
        path.write_bytes(b"model")
        with path.open("rb"):
            assert "open for reading" in sequential_file.in_use(str(path), "")
        assert sequential_file.in_use(f"{path}.other", "") == ""

    def test_one_that_another_program_reads_by_the_daemons_word(self, tmp_path):
        said = "inode 4 is not writable while being read"
        assert "another program reads it" in sequential_file.in_use(str(tmp_path / "x"), said)

    def test_where_the_kernel_does_not_tell(self, tmp_path):
        assert sequential_file.in_use("x", "", maps=tmp_path / "no", opened=tmp_path / "no") == ""
