"""A directory of this machine as a store: what is read for a proof comes from its disk."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    TimeUpError,
    VerificationError,
)
from mountkit.linux import mount_table
from mountkit.linux.mount_table import MountEntry
from mountkit.spec import StoreOptions
from mountkit.store import open_store, parse, provider, refusal_in
from mountkit.store.base import ObjectChangedError
from mountkit.store.file import disk, settle, settle_child
from mountkit.store.file.store import FileStore
from mountkit.timing import Deadline

SILENT = MountUnavailableError("It is silent.", hint="Wait.")


@pytest.fixture
def place(place_on):
    return place_on("disk")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "top" / "deep" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(300_000))
    return path


def in_memory(path: Path) -> int:
    """How many pages of a file the kernel has."""
    words = ["fincore", "--noheadings", "--output", "PAGES", str(path)]
    return int(subprocess.run(words, check=True, capture_output=True, timeout=10).stdout)


def of(descriptor: int) -> Path:
    """The path of an open file."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def mount_of(place: Path) -> int:
    """The id of the mount that a place lies on, as findmnt tells it."""
    words = ["findmnt", "--noheadings", "--output", "ID", "--target", str(place)]
    told = subprocess.run(words, check=True, capture_output=True, timeout=10).stdout
    return int(told.split()[-1])


class TestSettling:
    @pytest.mark.fault(4)
    def test_what_was_written_is_on_the_disk_and_no_more_in_memory(self, tmp_path, file):
        if shutil.which("fincore") is None:
            pytest.skip("there is no fincore to ask the kernel with: apt-get install util-linux")
        kind = subprocess.run(
            ["stat", "-f", "-c%T", str(tmp_path)], check=True, capture_output=True
        )
        if kind.stdout.strip() == b"tmpfs":
            pytest.skip("the temporary directory has no disk: set TMPDIR to one that has")
        assert in_memory(file) > 0
        found = settle.settle(str(tmp_path / "top"), str(file), 10, SILENT)
        assert found.failed == ""
        assert in_memory(file) == 0

    @pytest.mark.fault(4)
    def test_the_file_first_and_then_each_name_up_to_the_disks_own(self, tmp_path, file):
        synced = []
        told = settle_child.settle(
            str(tmp_path / "top"), str(file), lambda it: synced.append(of(it))
        )
        assert told["failed"] == ""
        folders = [each for each in file.parents if each.stat().st_dev == file.stat().st_dev]
        assert synced == [file, *folders]
        assert tmp_path in folders, "the name of the source in the directory around it"

    def test_a_directory_above_the_source_that_may_not_be_seen_is_none_of_ours(
        self, tmp_path, file
    ):
        def sync(descriptor):
            if of(descriptor) == tmp_path:
                raise PermissionError(13, "Permission denied")

        assert settle_child.settle(str(tmp_path / "top"), str(file), sync)["failed"] == ""
        below = settle_child.settle(str(tmp_path), str(file), sync)
        assert below["failed"] == "Permission denied"

    def test_what_is_there(self, tmp_path, file):
        top = tmp_path / "top"
        (tmp_path / "link").symlink_to(top)
        mount = mount_of(tmp_path)
        status = file.stat()
        stamp = (status.st_dev, status.st_ino, status.st_size)
        stamp += (status.st_mtime_ns, status.st_ctime_ns)
        for name in ("top", "link"):
            found = settle.settle(str(tmp_path / name), str(file), 10, SILENT)
            assert found == settle.Settled(True, mount, stamp)
        for none in (top / "none", file / "none"):
            assert settle.settle(str(top), str(none), 10, SILENT).stamp == ()
        for gone in ("none", "none/deeper", "top/deep/model.safetensors"):
            found = settle.look(str(tmp_path / gone), 10, SILENT)
            assert found == settle.Settled(False, mount)

    def test_it_is_the_mount_of_the_file_that_counts(self, tmp_path, file):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            Path(folder, "x").write_bytes(b"x")
            (file.parent / "elsewhere").symlink_to(folder)
            found = settle.settle(
                str(tmp_path / "top"), str(file.parent / "elsewhere" / "x"), 10, SILENT
            )
            assert found.mount == mount_of(Path(folder)) != mount_of(tmp_path)

    def test_a_file_that_may_only_be_read_is_synced_too(self, tmp_path, file):
        synced = []
        file.chmod(0o444)
        # For root, whom the mode does not keep from it.
        subprocess.run(["chattr", "+i", str(file)], check=False, timeout=10)
        try:
            writable = os.access(file, os.W_OK)
            told = settle_child.settle_file(str(file), lambda it: synced.append(of(it)))
        finally:
            subprocess.run(["chattr", "-i", str(file)], check=False, timeout=10)
        assert synced == [file]
        # Some file systems have no chattr; there root may write.
        assert told["writable"] is writable
        file.chmod(0o644)
        assert settle_child.settle_file(str(file), os.fsync)["writable"] is True
        assert told["stamp"] is not None

    def test_what_the_disk_says_against_it_is_told(self, tmp_path, file):
        loop = file.with_name("loop")
        loop.symlink_to(loop)
        found = settle.settle(str(tmp_path / "top"), str(loop), 10, SILENT)
        assert "symbolic links" in found.failed

    def test_a_file_system_that_does_not_answer_is_given_up(self, tmp_path):
        # To open it for reading waits until somebody opens it for writing.
        os.mkfifo(tmp_path / "hangs")
        words = ["-c", "import sys; open(sys.argv[1])", str(tmp_path / "hangs")]
        with pytest.raises(MountUnavailableError, match="silent"):
            settle._asked(words, 0.1, SILENT, None, script=())
        over = Deadline()
        over.set(0)
        with pytest.raises(TimeUpError):
            settle._asked(words, 60, SILENT, over.check, script=())


def entry(number, target, fstype, root="/"):
    return MountEntry(target, fstype, "", 1, number, root)


class TestDisks:
    POD = "/var/lib/kubelet/pods/7/volumes/kubernetes.io~empty-dir/scratch"
    TABLE = (
        entry(1, "/", "ext4"),
        entry(2, "/lustre", "lustre"),
        entry(3, "/dev/shm", "tmpfs"),
        entry(4, "/nfs", "nfs4"),
        entry(5, "/nfs", "fuse.rclone"),
        entry(6, "/ssh", "fuse.sshfs"),
        entry(7, "/azure", "cifs"),
        entry(8, "/scratch", "ext4", POD),
        entry(9, "/data", "xfs", "/volumes/data"),
    )

    @pytest.mark.parametrize("mount", [2, 4, 6, 7, 9])
    def test_what_outlives_the_job(self, mount):
        assert disk.refusal(mount, self.TABLE) == ""

    @pytest.mark.parametrize(
        ("mount", "why"),
        [
            (1, "root file system"),
            (3, "memory"),
            (5, "fuse.rclone"),
            (8, "goes with its pod"),
            (99, "no mount table"),
            (-1, "no mount table"),
        ],
    )
    def test_what_does_not(self, mount, why):
        assert why in disk.refusal(mount, self.TABLE)

    def test_what_is_not_synced_for_a_reader(self):
        assert "may not write" in disk.refusal(7, self.TABLE, writable=False)
        assert disk.refusal(4, self.TABLE, writable=False) == ""

    def test_what_of_a_disk_is_mounted_is_in_the_table(self):
        line = f"30 1 8:1 {self.POD} /scratch rw - ext4 /dev/sda1 rw\n"
        (found,) = mount_table.parse(line)
        assert (found.id, found.root) == (30, self.POD)


class TestStore:
    @pytest.mark.fault(19)
    def test_what_is_not_mounted_here_is_said_at_once(self, place):
        source = f"file://{place.disk}/lustre/run"
        with pytest.raises(ConfigurationError, match="There is no directory") as caught:
            open_store(parse(source), StoreOptions()).check()
        assert shlex.quote(f"{place.disk}/lustre") in caught.value.hint
        assert not (place.disk / "lustre").exists()

    @pytest.mark.fault(19)
    def test_a_place_in_memory_is_no_store(self):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            with pytest.raises(ConfigurationError, match="Nothing can be proven"):
                open_store(parse(f"file://{folder}/run"), StoreOptions()).check()
            assert not Path(folder, "run").exists()

    @pytest.mark.fault(4)
    def test_where_its_disk_was_unmounted_nothing_is_proven_or_written(self, place, tmp_path):
        """Its name leads to another file system; to each process it looks the same."""
        place.store.put("a", b"proven")
        place.disk.rename(place.disk.with_name("unmounted"))
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            place.disk.symlink_to(folder)
            Path(folder, "a").write_bytes(b"proven")
            store = open_store(place.store.source, StoreOptions())
            for asked in (place.store, store):
                with pytest.raises(MountUnavailableError, match="Nothing can be proven"):
                    next(asked.chunks("a"))
                for ask in (
                    lambda asked=asked: asked.put("b", b"proven"),
                    lambda asked=asked: asked.get("b"),
                ):
                    with pytest.raises(MountUnavailableError, match="Nothing can be proven"):
                        ask()
            assert [each.name for each in Path(folder).iterdir()] == ["a"]
            Path(folder, "a").unlink()
            for look in (store.list, store.directories):
                with pytest.raises(MountUnavailableError, match="Nothing can be proven"):
                    list(look())
            place.disk.unlink()
        place.disk.with_name("unmounted").rename(place.disk)
        assert [*place.store.chunks("a")] == [b"proven"]

    @pytest.mark.fault(10)
    def test_what_is_written_again_while_it_is_read_is_not_proven(self, place):
        data = os.urandom(300_000)
        place.put("a", data)
        reading = place.store.chunks("a", chunk_bytes=100_000)
        next(reading)
        place.put("a", data)
        with pytest.raises(ObjectChangedError, match="replaced"):
            list(reading)

    def test_a_small_file_that_is_gone_when_it_was_written_is_not_taken_for_one(self, place):
        class Removed(FileStore):
            def call(self, method, *arguments, **more):
                answer = super().call(method, *arguments, **more)
                if method == "operations/movefile":
                    (place.disk / "a").unlink()
                return answer

        with pytest.raises(NotDurableError, match="not on the disk as it was written"):
            Removed(place.store.source).put("a", b"proven")

    def test_what_a_file_system_says_is_told_from_what_its_files_are_called(self, place):
        for name in ("checkpoint-403", "checkpoint-401", "quota", "permission denied"):
            said = f"open /lustre/{name}/x: input/output error"
            assert type(place.store._error(said, "read", "x")) is MountUnavailableError
            assert refusal_in(place.store.source, said) is None
        denied = place.store._error("open /x: permission denied", "read", "x")
        assert isinstance(denied, PermissionDeniedError)
        assert denied.may_pass > 0
        assert refusal_in(place.store.source, "open /x: permission denied") > 0

    def test_what_is_to_be_typed_holds_for_each_name(self, place):
        found = provider("file")
        assert found.delete_command("file:///lustre/my data") == "rm -r '/lustre/my data'"
        assert found.list_command("file:///lustre/my data") == "ls -lR '/lustre/my data'"
        place.put("big", bytes(100))
        with pytest.raises(VerificationError) as caught:
            place.store.get("big", limit=10)
        assert shlex.quote(f"{place.disk}/big") in caught.value.hint

    def test_the_doctor_is_told_whose_rights_count(self, place):
        assert place.store.check().credentials == "the rights of this user"
