"""The doctor as a whole: the machine, a file's arrival, what is printed, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mountkit import cli, doctor
from mountkit.backends.base import Binary, Pending
from mountkit.backends.file_operations import OPERATIONS
from mountkit.config.settings import Settings, load
from mountkit.doctor import (
    file_operations,
    file_operations_child,
    machine,
    mount_check,
    quick_check,
    upload_check,
)
from mountkit.doctor.file_operations import Trial
from mountkit.doctor.findings import Diagnosis, Finding, OperationResult, diagnose
from mountkit.errors import MountUnavailableError, PermissionDeniedError
from mountkit.linux.unanswered import within
from mountkit.mounts.resolve_spec import resolve_mount_spec
from mountkit.names import DOCTOR_NAME
from support.fakes import FakeMount

NAME = ".mountkit-doctor-x"


class Program:
    """A backend, as far as the look at the machine needs one."""

    name = "rclone"
    mounts = True

    def __init__(self, error: MountUnavailableError | None = None) -> None:
        self._error = error

    def binary(self, search_path: str) -> Binary:
        if self._error:
            raise self._error
        return Binary("/opt/rclone", (1, 75, 2))


@pytest.fixture
def mount(tmp_path, monkeypatch) -> FakeMount:
    """A mount whose helper writes to the fake's bucket as a daemon would, if ``uploads``."""
    fake = FakeMount(tmp_path)
    fake.uploads = True
    fake.body = file_operations_child.BODY

    def leave(directory: str, seconds: float) -> str:
        path = f"{Path(directory).name}/{file_operations_child.ARRIVAL}"
        fake.write(path, fake.body)
        if fake.uploads:
            fake.upload(path)
        return ""

    def remove(directory: str, seconds: float) -> str:
        fake.removed = directory
        return ""

    monkeypatch.setattr(file_operations, "leave", leave)
    monkeypatch.setattr(file_operations, "remove", remove)
    return fake


class TestMachine:
    def look(self, tmp_path: Path, **how) -> dict[str, Finding]:
        found = machine.examine(Program(**how), "/nowhere", tmp_path, None)
        return {finding.name: finding for finding in found}

    def test_the_program(self, tmp_path):
        assert self.look(tmp_path)["binary"].detail == "1.75.2, /opt/rclone"

    def test_a_program_that_is_missing(self, tmp_path):
        error = MountUnavailableError("There is no rclone on PATH.", hint="Install it")
        found = self.look(tmp_path, error=error)["binary"]
        assert (found.status, found.exit_code, found.hint) == ("failed", 69, "Install it")

    def test_fusermount3_that_is_missing(self, tmp_path):
        found = self.look(tmp_path)["fusermount"]
        assert (found.status, found.exit_code) == ("failed", 69)
        assert "fuse3" in found.hint

    @pytest.mark.parametrize("problem", ["missing", "a folder"])
    def test_a_device_that_cannot_be_had(self, tmp_path, monkeypatch, problem):
        device = tmp_path / "fuse"
        if problem == "a folder":
            device.mkdir()
        monkeypatch.setattr(machine.fusermount, "FUSE_DEVICE", device)
        found = self.look(tmp_path)["device"]
        assert (found.status, found.exit_code) == ("failed", 69)
        assert str(device) in found.detail
        assert "modprobe fuse" in found.hint

    def test_a_device_that_opens(self, tmp_path, monkeypatch):
        before = len(list(Path("/proc/self/fd").iterdir()))
        monkeypatch.setattr(machine.fusermount, "FUSE_DEVICE", Path("/dev/null"))
        assert self.look(tmp_path)["device"].status == "ok"
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_the_disk_of_a_directory_that_is_not_there_yet(self, tmp_path):
        disk = machine.look_at_disk(tmp_path / "a" / "b")
        assert disk.problem == ""
        assert disk.free > 0
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_is_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        assert "is a file" in machine.look_at_disk(tmp_path / "file").problem
        assert machine.look_at_disk(tmp_path / "file" / "below").problem

    def test_a_directory_that_may_not_be_written_to(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert "may not be written to" in machine.look_at_disk(tmp_path).problem

    def test_a_disk_that_does_not_answer(self, tmp_path, monkeypatch):
        monkeypatch.setattr(machine, "DISK_SECONDS", 0.1)
        monkeypatch.setattr(machine, "_disk", lambda _: threading.Event().wait())
        assert "no answer within 0.1 s" in machine.look_at_disk(tmp_path).problem


class TestWithin:
    def test_it_hands_on_what_comes_back(self):
        assert within(5, lambda: 7) == 7

    def test_it_hands_on_what_is_raised(self):
        with pytest.raises(ZeroDivisionError):
            within(5, lambda: 1 / 0)

    def test_it_waits_no_longer(self):
        with pytest.raises(TimeoutError):
            within(0.1, lambda: threading.Event().wait())


class TestArrival:
    def test_a_file_that_arrives(self, mount):
        found = upload_check.examine(mount, NAME)
        assert found.status == "ok"
        assert "proven by CRC64NVME" in found.detail
        assert mount.removed == f"{mount.path}/{NAME}"

    def test_a_file_that_never_does(self, mount):
        mount.uploads = False
        found = upload_check.examine(mount, NAME, seconds=0.3)
        assert (found.status, found.exit_code) == ("failed", 69)
        assert "not in the bucket after 0.3 s" in found.detail
        assert str(mount.directory.log) in found.hint
        assert mount.removed

    def test_what_the_daemon_says_is_told(self, mount):
        mount.uploads = False
        path = f"{NAME}/{file_operations_child.ARRIVAL}"
        mount.daemon.script = [Pending(errors=((path, "connection reset"),)), Pending()]
        found = upload_check.examine(mount, NAME, seconds=0.3)
        assert "connection reset" in found.detail

    def test_an_error_that_passes_is_waited_for(self, mount):
        path = f"{NAME}/{file_operations_child.ARRIVAL}"
        mount.daemon.script = [Pending(errors=((path, "connection reset"),)), Pending()]
        assert upload_check.examine(mount, NAME).status == "ok"

    @pytest.mark.fault(18)
    @pytest.mark.parametrize("kind", ["errors", "lost"])
    def test_a_refusal_is_not_waited_for(self, mount, kind):
        mount.uploads = False
        path = f"{NAME}/{file_operations_child.ARRIVAL}"
        mount.daemon.script = [Pending(**{kind: ((path, "AccessDenied: not you"),)})]
        found = upload_check.examine(mount, NAME, seconds=3600.0)
        assert (found.status, found.exit_code) == ("failed", 77)
        assert "AccessDenied" in found.detail

    def test_a_file_that_arrives_as_another(self, mount):
        mount.body = file_operations_child.BODY[:-1]
        found = upload_check.examine(mount, NAME, seconds=0.3)
        assert found.status == "failed"
        assert str(len(file_operations_child.BODY)) in found.detail

    def test_a_file_that_cannot_be_written(self, mount, monkeypatch):
        monkeypatch.setattr(file_operations, "leave", lambda *_: "OSError: no")
        found = upload_check.examine(mount, NAME)
        assert found.status == "failed"
        assert "OSError: no" in found.detail
        assert mount.removed

    def test_a_daemon_that_does_not_answer(self, mount):
        mount.daemon.script = [MountUnavailableError("rclone is silent.", hint="look")]
        found = upload_check.examine(mount, NAME)
        assert (found.status, found.detail) == ("failed", "rclone is silent.")
        assert mount.removed

    def test_what_reached_the_bucket_is_swept_away(self, mount):
        mount.bucket.objects[f"run/{NAME}/put"] = b""
        mount.bucket.objects["run/checkpoint-1/weights"] = b""
        assert upload_check.tidy(mount, (NAME,), ()) == ()
        assert set(mount.bucket.objects) == {"run/checkpoint-1/weights"}

    def test_what_cannot_be_swept_away_is_named(self, mount):
        def refuse(_):
            raise PermissionDeniedError("s3:DeleteObject, no.")

        mount.bucket.objects[f"run/{NAME}/put"] = b""
        mount.bucket.before_delete = refuse
        (found,) = upload_check.tidy(mount, (NAME,), (f"{mount.path}/{NAME}/seek",))
        assert found.status == "warning"
        assert f"{mount.path}/{NAME}/seek" in found.detail
        assert "s3:DeleteObject, no." in found.detail
        assert f"s3://bucket/run/{NAME}" in found.hint


class TestEssential:
    @pytest.fixture
    def outcome(self, monkeypatch):
        """What the trial finds, for the essential operations by name."""
        failures: dict[str, OperationResult] = {}
        asked: list[tuple] = []

        def attempt(directory: str, names: tuple[str, ...], seconds: float) -> Trial:
            asked.append((directory, names, seconds))
            told = (failures.get(name, OperationResult(name, works=True)) for name in names)
            return Trial(tuple(told), ())

        monkeypatch.setattr(file_operations, "attempt", attempt)
        failures["asked"] = asked
        return failures

    def fail(self, outcome, name: str, number: int) -> None:
        outcome[name] = OperationResult(name, works=False, problem="close: no", errno=number)

    def test_only_what_every_save_needs_is_tried(self, mount, outcome):
        doctor.essential(mount, 3)
        [(directory, names, seconds)] = outcome["asked"]
        assert Path(directory).parent == Path(mount.path)
        assert Path(directory).name.startswith(DOCTOR_NAME)
        assert names == tuple(operation.name for operation in OPERATIONS if operation.essential)
        assert seconds == 3

    @pytest.mark.parametrize(
        ("number", "code", "word"),
        [
            (errno.EIO, 69, "mountkit doctor s3://bucket/run"),
            (errno.ETIMEDOUT, 69, "mountkit doctor s3://bucket/run"),
            (errno.EACCES, 77, "mountkit doctor s3://bucket/run"),
            (errno.ENOSPC, 69, "df -h"),
        ],
    )
    def test_what_fails_is_an_error_that_names_it(self, mount, outcome, number, code, word):
        mount.source = "s3://bucket/run"
        self.fail(outcome, "overwrite", number)
        with pytest.raises((MountUnavailableError, PermissionDeniedError)) as refused:
            doctor.essential(mount)
        assert refused.value.exit_code == code
        assert mount.path in refused.value.message
        assert "to write a file that is there anew does not work (close: no)" in str(refused.value)
        assert word in refused.value.hint

    def test_nothing_stays_in_the_bucket(self, mount, outcome, monkeypatch):
        monkeypatch.setattr(quick_check.secrets, "token_hex", lambda _: "x")
        mount.bucket.objects[f"run/{NAME}/late"] = b""
        doctor.essential(mount)
        assert mount.bucket.objects == {}


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Run a command line in this process; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUNTKIT_STATE_DIR", str(tmp_path / "s"))

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["doctor", *words])
        captured = capfd.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


@pytest.fixture
def found(monkeypatch):
    """Let the doctor find this; also how it was asked."""
    asked: list[tuple] = []

    def let(diagnosis: Diagnosis) -> list[tuple]:
        def examine(settings, source, target, **how):
            asked.append((settings, source, target, how))
            how["tell"]("looking")
            return diagnosis

        monkeypatch.setattr(doctor, "examine", examine)
        return asked

    return let


RESULTS = (
    *(OperationResult(operation.name, works=True) for operation in OPERATIONS[:5]),
    OperationResult("unlink", works=False, problem="unlink: EIO, Input/output error", errno=5),
    *(
        OperationResult(operation.name, works=False, problem="rename: no", errno=1)
        for operation in OPERATIONS[6:]
    ),
)
REFUSED = frozenset(operation.name for operation in OPERATIONS[6:])
FINDINGS = (
    Finding("binary", "rclone program", "ok", "1.75.2, /opt/rclone"),
    Finding("room", "room for the cache", "warning", "Only 5 GB [free].", "--cache-dir DIR"),
    Finding("put", "put an object", "failed", "s3:PutObject " + "is not allowed " * 9, "Ask", 77),
    Finding("get", "get an object", "skipped", "Not tried: see put an object."),
    Finding("mount", "mount", "skipped", "Not tried: see put an object."),
)


class TestCommand:
    def diagnosis(self) -> Diagnosis:
        return diagnose(FINDINGS, RESULTS, "picky", REFUSED, source="s3://bucket")

    def test_a_report_for_people_in_80_columns(self, run, found, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        found(self.diagnosis())
        code, out, err = run("s3://bucket")
        assert code == 77
        *lines, last = out.rstrip().splitlines()
        assert last == self.diagnosis().verdict
        assert max(map(len, lines)) <= 80
        assert "FAILED  put an object" in out
        assert "Only 5 GB [free]." in out, "what looks like mark-up is text"
        assert "get an object, mount (see put an object)" in out
        assert "NO: unlink: EIO" in out
        assert out.count("not on picky") == len(REFUSED)
        assert "\x1b" not in out
        assert "mountkit: looking" in err

    def test_one_object_for_programs(self, run, found):
        found(self.diagnosis())
        code, out, _ = run("s3://bucket", "--format", "json")
        assert code == 77
        assert json.loads(out) == json.loads(json.dumps(self.diagnosis().to_json()))

    def test_how_it_is_asked(self, run, found, monkeypatch):
        asked = found(diagnose((), (), "x", frozenset(), source="s3://bucket"))
        monkeypatch.setenv("MOUNTKIT_SOURCE", "s3://other")
        monkeypatch.setenv("MOUNTKIT_TARGET", "/mnt/other")
        assert run("s3://bucket", "--model-size", "13GB", "--option", "a=b")[0] == 0
        run("s3://bucket", "/mnt/here", "--model-size", "1GiB", "--backend", "rclone")
        run()
        first, second, third = asked
        assert first[1:3] == ("s3://bucket", None)
        assert first[3]["checkpoint"] == 13 * 10**9
        assert first[3]["options"] == ("a=b",)
        assert second[1:3] == ("s3://bucket", "/mnt/here")
        assert second[3]["checkpoint"] == 2**30
        assert second[0].backend == "rclone"
        assert third[1:3] == ("s3://other", "/mnt/other")

    def test_without_a_bucket_it_says_how_to_try_one(self, run, found):
        found(diagnose((), (), "x", frozenset(), source=None))
        code, out, err = run()
        assert code == 0
        assert "This machine can mount a bucket." in out
        assert "mountkit doctor s3://bucket/prefix" in err

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["bucket"], "'bucket' is not a URL."),
            (["s3://b", "--model-size", "a lot"], "'a lot' is not a size"),
            (["s3://b", "--backend", "sshfs"], "no backend called 'sshfs'"),
            (["--backend", "sshfs"], "no backend called 'sshfs'"),
            (["s3://b", "--backend", "rclone", "--option", "x"], "not KEY=VALUE"),
            (["s3://b", "--backend", "rclone", "--option", "cache-dir=/x"], "mountkit's own"),
        ],
    )
    def test_what_makes_no_sense_is_refused_before_anything_is_asked(
        self, run, monkeypatch, words, says
    ):
        monkeypatch.setattr(
            doctor.store_check, "examine", lambda *_: pytest.fail("it asked the store")
        )
        code, out, err = run(*words)
        assert code == 2
        assert out == ""
        assert says in err


class TestMounting:
    def test_a_disk_without_room_for_the_state_is_a_finding(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "s" / "record"))

        settings = load(backend="rclone", cache_dir=tmp_path / "c", state_dir=tmp_path / "s")
        spec = resolve_mount_spec("s3://bucket/run", tmp_path / "t", settings)
        monkeypatch.setattr(mount_check.Session, "open", refuse)
        (found,) = mount_check.examine(spec, settings, NAME, keep=False).findings
        assert (found.name, found.status, found.exit_code) == ("mount", "failed", 69)
        assert f"{tmp_path}/s/record: No space left on device" in found.detail
        assert "df -h" in found.hint


class TestExamine:
    """The whole, with the bucket and the mount left out."""

    @pytest.fixture
    def settings(self, tmp_path, monkeypatch) -> Settings:
        monkeypatch.setattr(doctor.machine, "examine", lambda *_: ())
        monkeypatch.setattr(doctor.store_check, "examine", lambda *_: self.bucket)
        monkeypatch.setattr(doctor.mount_check, "examine", self.mounted)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(doctor.tempfile, "tempdir", None)
        self.bucket = (Finding("put", "put", "ok", "fine"),)
        self.mounts = []
        return load(backend="rclone", cache_dir=tmp_path / "c", state_dir=tmp_path / "s")

    def mounted(self, spec, settings, name, *, keep):
        self.mounts.append((spec.target, keep, Path(spec.target).is_dir()))
        return doctor.Tried("rclone", (Finding("mount", "mount", "ok", "fine"),))

    def test_it_mounts_at_a_place_of_its_own_that_goes_again(self, settings, tmp_path):
        found = doctor.examine(settings, "s3://bucket/run")
        assert found.exit_code == 0
        [(target, keep, there)] = self.mounts
        assert there
        assert not keep
        assert list(tmp_path.iterdir()) == []
        assert target.startswith(str(tmp_path))

    def test_it_mounts_at_the_target_which_stays(self, settings, tmp_path):
        (tmp_path / "t").mkdir()
        doctor.examine(settings, "s3://bucket/run", str(tmp_path / "t"))
        assert self.mounts == [(str(tmp_path / "t"), True, True)]
        assert (tmp_path / "t").is_dir()

    def test_it_does_not_mount_what_has_failed_already(self, settings, tmp_path):
        self.bucket = (Finding("put", "put an object", "failed", "No.", "Ask", 77),)
        found = doctor.examine(settings, "s3://bucket/run")
        assert self.mounts == []
        assert found.exit_code == 77
        assert found.findings[-1].detail == "Not tried: see put an object."
        assert list(tmp_path.iterdir()) == []

    def test_without_any_backend_the_bucket_is_still_looked_at(self, settings, monkeypatch):
        def none(*_, **__):
            raise MountUnavailableError("There is nothing to mount with.", hint="Install one")

        monkeypatch.setattr(doctor.selection, "choose", none)
        automatic = replace(settings, backend="auto")
        found = doctor.examine(automatic, "s3://bucket/run")
        assert [finding.name for finding in found.findings] == ["binary", "put", "mount"]
        assert found.exit_code == 69
        assert found.backend == ""
        assert "cannot mount" in doctor.examine(automatic).verdict
