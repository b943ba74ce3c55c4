"""Where a link leads, and what is said of one that a bucket cannot hold as it is."""

from __future__ import annotations

import os

import pytest

from mountkit.config.timeouts import Limits
from mountkit.errors import ConfigurationError, NotDurableError
from mountkit.mounts import link_names, location
from mountkit.proof import symbolic_links
from mountkit.proof.committer import Prover
from mountkit.timing import Deadline
from mountkit.training import permanent_errors
from support.fakes import FakeMount

SUFFIX = ".rclonelink"
pytestmark = pytest.mark.fault(47)


@pytest.fixture
def mount(tmp_path) -> FakeMount:
    return FakeMount(tmp_path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("latest.rclonelink", "latest"),
        ("a/b.bin.rclonelink", "a/b.bin"),
        ("latest", ""),
        (".rclonelink", ""),
        ("a/.rclonelink", ""),
        ("a.rclonelink/b", ""),
        ("a.rclonelink.rclonelink", "a.rclonelink"),
    ],
)
def test_the_name_under_which_a_link_is_shown(path, name):
    assert link_names.shown(path, SUFFIX) == name
    assert link_names.shown(path, "") == ""


@pytest.mark.parametrize(
    ("target", "path", "out"),
    [
        ("model.bin", "top/link", False),
        ("./model.bin", "top/link", False),
        ("sub//model.bin", "top/link", False),
        ("..", "top/link", True),
        ("../top/model.bin", "top/link", True),
        ("../model.bin", "top/sub/link", False),
        ("../../model.bin", "top/sub/link", True),
        ("../../model.bin", "top/sub/sub/link", False),
        ("sub/../model.bin", "top/link", True),
        ("/top/model.bin", "top/link", True),
        ("..model.bin", "top/link", False),
    ],
)
def test_whether_a_link_leads_out_of_a_checkpoint(target, path, out):
    assert link_names.leaves(target, path, "top") is out
    assert link_names.leaves(target, f"runs/{path}", "runs/top") is out


def test_the_files_of_a_directory_and_its_links_by_their_objects(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("a")
    (tmp_path / "empty").mkdir()
    for name, target in (("folder", "sub"), ("sub/file", "a"), ("gone", "nowhere"), ("up", "..")):
        (tmp_path / name).symlink_to(target)
    expected = sorted(
        ["sub/a", *(f"{name}{SUFFIX}" for name in ("folder", "sub/file", "gone", "up"))]
    )
    assert link_names.walk(tmp_path, SUFFIX) == tuple(expected)
    with pytest.raises(FileNotFoundError):
        link_names.walk(tmp_path / "none", SUFFIX)


class TestCheckpoint:
    def prove(self, mount, *names):
        mount.begin()
        return Prover(mount, "", Limits(stall=0.1, drain=1.0, repair=1.0), lambda _: None).prove(
            "checkpoint-1", 1, names
        )

    def test_a_link_to_a_file_of_it_is_listed_as_its_object(self, mount):
        mount.save("checkpoint-1/model.bin")
        mount.save("checkpoint-1/weights.rclonelink", b"model.bin")
        manifest = self.prove(mount, "model.bin", "weights.rclonelink")
        assert [(entry.path, entry.size) for entry in manifest.files] == [
            ("model.bin", 4),
            ("weights.rclonelink", 9),
        ]

    @pytest.mark.parametrize("target", [b"/tmp/blob", b"../checkpoint-2/model.bin", b"/tmp/\xff"])
    @pytest.mark.parametrize("here", [True, False])
    def test_one_that_leads_out_of_it_is_named(self, mount, target, here):
        mount.save("checkpoint-1/model.bin")
        mount.save("checkpoint-1/weights.rclonelink", target)
        if not here:
            # An earlier run saved it; this machine does not have it.
            (mount.daemon.cache / "checkpoint-1/weights.rclonelink").unlink()
            del mount.daemon.listed["checkpoint-1/weights.rclonelink"]
        with pytest.raises(NotDurableError) as caught:
            self.prove(mount, "model.bin", "weights.rclonelink")
        [problem] = caught.value.unproven
        assert problem.path == "checkpoint-1/weights.rclonelink"
        assert "leads out of the checkpoint" in problem.reason
        assert not [key for key in mount.bucket.objects if "manifest" in key]

    def test_a_file_with_a_links_name_is_named(self, mount):
        mount.save("checkpoint-1/a.rclonelink", b"text")
        mount.lacks = frozenset({"checkpoint-1/a"})
        with pytest.raises(NotDurableError) as caught:
            self.prove(mount, "a.rclonelink")
        assert "rename it" in caught.value.unproven[0].reason


class TestDoubtful:
    def found(self, mount, *paths):
        store = mount.store()
        doubtful = symbolic_links.doubtful(mount, store, tuple(store.list()), paths, Deadline())
        return [each.path for each in doubtful]

    def test_a_file_and_a_link_of_one_name(self, mount):
        for path in ("one", "one.rclonelink", "two", "other", "other.rclonelink"):
            mount.save(path)
        both = "one and one.rclonelink"
        assert self.found(mount, "one") == self.found(mount, "one.rclonelink") == [both]
        assert self.found(mount, "two") == []

    def test_where_nothing_was_written_the_store_is_not_asked(self, mount):
        mount.save("old")
        mount.save("old.rclonelink")
        assert self.found(mount) == []
        assert mount.bucket.asked("stat") == []

    def test_the_one_may_come_to_the_store_after_it_was_listed_and_the_other_be_gone(self, mount):
        listed = []
        for name in ("late", "gone"):
            mount.save(name)
        listed += mount.store().list()
        for name in ("late.rclonelink", "gone.rclonelink"):
            mount.save(name)
        del mount.bucket.objects["run/gone"]
        paths = sorted(mount.daemon.listed)
        found = symbolic_links.doubtful(mount, mount.store(), listed, paths, Deadline())
        assert [each.path for each in found] == ["late and late.rclonelink"]


def test_only_what_leads_out_of_the_mount_is_told(mount):
    mount.write("out.rclonelink", b"/etc/hostname")
    mount.write("up.rclonelink", b"../elsewhere")
    mount.write("in.rclonelink", f"{mount.path}/checkpoint-1".encode())
    mount.write("round.rclonelink", b"a/../checkpoint-1")
    mount.write("file", b"/etc/hostname")
    written = sorted(mount.daemon.listed)
    said = symbolic_links.leading_out(mount, mount.store(), (), written, Deadline())
    assert [each.partition(" ")[0] for each in said] == ["out", "up"]


def test_so_is_what_an_earlier_run_has_left_but_for_checkpoints(mount):
    for name in ("logs.rclonelink", "checkpoint-1/model.rclonelink", "logs"):
        mount.bucket.objects[f"run/{name}"] = b"/scratch/logs"
    there = [info.path for info in mount.store().list()]
    said = symbolic_links.leading_out(mount, mount.store(), there, (), Deadline())
    assert [each.partition(" ")[0] for each in said] == ["logs"]


def test_where_a_path_of_the_mount_leads(mount):
    where = {"current": f"{mount.path}/run-3", "top": mount.path, "away": f"{mount.path}-2/x"}
    mount.real = lambda path: where[path]
    assert location.followed(mount, "current") == "run-3"
    assert location.followed(mount, "top") == ""
    with pytest.raises(ConfigurationError, match="leads out of the mount"):
        location.followed(mount, "away")


def test_an_error_names_its_files_and_the_call():
    def fail():
        os.symlink("model.bin", "/proc/latest")  # noqa: PTH211 - as a program does

    with pytest.raises(OSError, match="/proc/latest") as caught:
        fail()
    said = permanent_errors.described(caught.value)
    assert said.startswith("model.bin -> /proc/latest: ")
    assert 'os.symlink("model.bin", "/proc/latest")' in said
    assert "test_symbolic_links.py:" in said
