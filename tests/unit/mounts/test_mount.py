"""A mount as its users see it, and a path or URL as they give it."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mountkit.config.settings import load
from mountkit.errors import ConfigurationError, MountUnavailableError, UsageError
from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.location import Place
from mountkit.mounts.mount import FLUSH_SECONDS, Mount, backends, mount_io
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.record import FAILED, MOUNTING, REPAIRING, SERVING, MountRecord, now
from mountkit.state.registry import State
from mountkit.timing import Deadline


@pytest.fixture
def known(tmp_path, monkeypatch) -> State:
    monkeypatch.setenv("MOUNTKIT_STATE_DIR", str(tmp_path / "s"))
    monkeypatch.chdir(tmp_path)
    return State(tmp_path / "s")


@pytest.fixture
def record(known, tmp_path) -> MountRecord:
    """A mount that has a record and is not in the mount table."""
    (tmp_path / "mnt").mkdir()
    store = StoreOptions("http://localhost:9000", "eu-north-1", "mine")
    target = str(tmp_path / "mnt")
    spec = MountSpec(Source("s3", "bucket", "run"), target, "rclone", store, str(tmp_path / "c"))
    made = MountRecord(spec, SERVING, now(), ProcessIdentity.mine())
    known.directory(spec.id).write(made)
    return made


@pytest.fixture
def mount(record, known) -> Mount:
    return Mount.of(record, known)


class TestMount:
    def test_it_is_found_by_what_lies_in_it(self, mount, tmp_path):
        assert Mount.containing(tmp_path / "mnt" / "out" / "checkpoint-3").spec == mount.spec
        assert Mount.containing("mnt").spec == mount.spec
        assert Mount.containing(tmp_path) is None
        assert Mount.containing(f"{tmp_path}/mnt-2") is None

    def test_a_link_to_it_counts(self, mount, tmp_path):
        (tmp_path / "link").symlink_to("mnt")
        assert Mount.containing(tmp_path / "link" / "out").spec == mount.spec
        assert mount.relative(tmp_path / "link" / "out") == "out"

    def test_one_that_is_kept_is_found_at_its_own_path_alone(self, mount, tmp_path):
        (tmp_path / "link").symlink_to("mnt")
        for path in ("mnt", tmp_path / "mnt", tmp_path / "link"):
            assert Mount.kept_at(path).spec == mount.spec
        for path in ("mnt/out", tmp_path, f"{tmp_path}/mnt-2"):
            assert Mount.kept_at(path) is None

    def test_one_that_nobody_looks_after_is_not_kept(self, mount, record):
        gone = replace(ProcessIdentity.mine(), started=1)
        mount.directory.write(replace(record, supervisor=gone))
        assert Mount.kept_at(mount.path) is None

    def test_one_that_is_being_repaired_is_kept(self, mount, record):
        mount.directory.write(record.change(REPAIRING))
        assert Mount.kept_at(mount.path).spec == mount.spec

    def test_one_that_is_given_up_is_an_error(self, mount, record):
        mount.directory.write(record.change(FAILED, reason="10 attempts failed"))
        with pytest.raises(MountUnavailableError) as caught:
            Mount.kept_at(mount.path)
        assert "10 attempts failed" in caught.value.message
        assert mount.path in caught.value.hint

    def test_what_it_says_of_itself(self, mount, record):
        assert mount.path == record.spec.target
        assert mount.source == "s3://bucket/run"
        assert mount.record() == record

    @pytest.mark.parametrize(("below", "relative"), [("", ""), ("a/b/", "a/b"), ("a/../b", "b")])
    def test_a_path_relative_to_it(self, mount, below, relative):
        assert mount.relative(f"{mount.path}/{below}") == relative

    @pytest.mark.parametrize("path", ["/elsewhere", "..", "mnt/..", "mnt-2"])
    def test_a_path_outside_is_an_error_that_names_both(self, mount, path):
        with pytest.raises(ConfigurationError) as caught:
            mount.relative(path)
        assert path in caught.value.message
        assert mount.path in caught.value.message

    def test_the_pid_of_its_daemon(self, mount, record):
        assert mount.daemon_pid() is None
        mount.directory.write(record.change(SERVING, daemon=ProcessIdentity.mine()))
        assert mount.daemon_pid() == os.getpid()
        mount.directory.clear()
        assert mount.daemon_pid() is None

    def test_its_store_is_the_one_of_the_mount(self, mount, record):
        assert mount.store("out").source.url == "s3://bucket/run/out"
        assert mount.store().source == record.spec.source
        assert mount.store().options == record.spec.store

    def test_a_flush_takes_but_a_part_of_the_time_left(self, mount, monkeypatch):
        asked = []
        owner = SimpleNamespace(mounts=True, entry=lambda _: object(), matches=lambda *_: True)
        monkeypatch.setattr(backends, "load", lambda _: owner)
        monkeypatch.setattr(mount_io, "flush", lambda _, seconds: asked.append(seconds) or "")
        deadline = Deadline()
        assert mount.flush() == mount.flush(deadline) == ""
        deadline.set(20.0)
        mount.flush(deadline)
        assert asked[:2] == [FLUSH_SECONDS] * 2
        assert 1.0 <= asked[2] <= 5.0

    def test_its_store_knows_the_deadline(self, mount):
        deadline = Deadline()
        assert mount.store("out", 3.0, deadline).deadline is deadline


class TestServing:
    def test_what_is_not_in_the_table_does_not_serve(self, mount):
        assert not mount.serving()

    @pytest.mark.fault(9)
    def test_what_somebody_else_mounted_does_not_either(self, known):
        spec = MountSpec(Source("s3", "b", ""), "/proc", "rclone", StoreOptions(), "/c")
        assert not Mount(spec, known.directory("1")).serving()

    @pytest.mark.fault(9)
    @pytest.mark.parametrize(
        ("what", "covered"),
        [
            (SERVING, "proc (proc) is mounted over it"),
            (FAILED, "proc (proc) is mounted over it"),
            # It may be ours, on a device that is not written down yet.
            (REPAIRING, ""),
            (MOUNTING, ""),
        ],
    )
    def test_what_somebody_else_mounted_covers_ours(self, known, record, what, covered):
        spec = MountSpec(Source("s3", "b", ""), "/proc", "mountpoint", StoreOptions(), "/c")
        mount = Mount(spec, known.directory("1"))
        mount.directory.write(replace(record, spec=spec, device=7).change(what))
        assert mount.shadowed_by() == covered

    def test_nothing_covers_it_where_nothing_is_mounted(self, mount):
        assert mount.shadowed_by() == ""

    def test_nobody_waits_for_a_mount_that_is_gone(self, mount):
        mount.directory.clear()
        with pytest.raises(MountUnavailableError, match="unmounted"):
            mount.wait_until_serving(3600.0)

    def test_nor_for_one_that_was_given_up(self, mount, record):
        mount.directory.write(record.change(FAILED, reason="it is gone"))
        with pytest.raises(MountUnavailableError, match="failed") as caught:
            mount.wait_until_serving(3600.0)
        assert f"mountkit status {mount.path}" in caught.value.hint

    def test_waiting_for_a_repair_has_an_end(self, mount, record):
        mount.directory.write(record.change(REPAIRING))
        with pytest.raises(MountUnavailableError, match="repairing"):
            mount.wait_until_serving(0.0)


class TestPlace:
    def test_a_url(self, known):
        settings = load(region="eu-north-1")
        place = Place.find("s3://bucket/run//1/", settings)
        assert place.source.url == "s3://bucket/run/1"
        assert place.options.region == "eu-north-1"
        assert place.child("checkpoint-3") == "s3://bucket/run/1/checkpoint-3"

    def test_a_bucket(self, known):
        place = Place.find("s3://bucket", load())
        assert place.child("checkpoint-3") == "s3://bucket/checkpoint-3"

    def test_a_mounted_path_has_the_options_of_its_mount(self, mount, record):
        place = Place.find(f"{mount.path}/out", load(region="other"))
        assert place.source.url == "s3://bucket/run/out"
        assert place.options == record.spec.store
        assert place.child("checkpoint-3") == f"{mount.path}/out/checkpoint-3"

    def test_the_mount_itself(self, mount):
        place = Place.find("mnt/", load())
        assert place.source.url == "s3://bucket/run"
        assert place.child("checkpoint-3") == f"{mount.path}/checkpoint-3"

    def test_a_path_in_no_mount(self, known, tmp_path):
        with pytest.raises(ConfigurationError, match="lies in no mount") as caught:
            Place.find(str(tmp_path), load())
        assert "s3://" in caught.value.hint

    def test_a_url_that_is_none(self, known):
        with pytest.raises(UsageError):
            Place.find("ftp://bucket", load())
