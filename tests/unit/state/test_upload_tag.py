"""Whose upload an object is, by the mark that its daemon left on it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mountkit.config.settings import Settings
from mountkit.linux.process import ProcessIdentity
from mountkit.mounts.resolve_spec import resolve_mount_spec
from mountkit.spec import MountSpec, Source, StoreOptions, mount_id
from mountkit.state import cache_lock, upload_tag
from mountkit.state.mount_directory import StateDirectory
from mountkit.state.record import SERVING, MountRecord, now
from mountkit.state.registry import State

pytestmark = pytest.mark.fault(15, 36)


class Machine:
    """A machine with a state directory and a cache of one mount; the mount is the same on all."""

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.state = folder / "state"
        self.cache = cache or folder / "cache"
        for place in (self.state, self.cache):
            place.mkdir(parents=True, exist_ok=True)
        source = Source("s3", "bucket", "run")
        self.spec = MountSpec(source, "/mnt", "rclone", StoreOptions(), str(self.cache))

    def mount(self) -> str:
        """Make the mount anew; the mark that its daemon gets."""
        upload_tag.begin(StateDirectory(self.state), self.cache)
        return self.mark()

    def mark(self) -> str:
        return upload_tag.value(self.state, self.spec.id)

    def foreign(self, mark: str) -> bool:
        return upload_tag.is_foreign(mark, self.spec, self.state)


@pytest.fixture
def here(tmp_path) -> Machine:
    return Machine(tmp_path / "here")


def test_two_machines_that_mount_the_same_do_not_take_each_other_s_uploads(here, tmp_path):
    there = Machine(tmp_path / "there")
    assert here.spec.id == there.spec.id
    mine, theirs = here.mount(), there.mount()
    assert here.foreign(theirs)
    assert there.foreign(mine)
    assert not here.foreign(mine)


def test_each_run_has_a_mark_of_its_own_and_all_are_of_this_cache(here):
    first, second = here.mount(), here.mount()
    assert first != second
    assert not here.foreign(first)
    assert not here.foreign(second)


def test_a_cache_that_comes_back_on_another_machine_keeps_what_it_knows(here, tmp_path):
    mine = here.mount()
    there = Machine(tmp_path / "there", here.cache)
    theirs = there.mount()
    assert not there.foreign(mine)
    assert not here.foreign(theirs)


def test_so_does_one_at_another_path(here, tmp_path):
    mine = here.mount()
    shutil.move(here.cache, tmp_path / "volume")
    there = Machine(tmp_path / "there", tmp_path / "volume")
    there.mount()
    assert not there.foreign(mine)


@pytest.mark.parametrize("run", ["0123456789ab", ""], ids=["with a run", "without"])
def test_a_mount_that_the_version_before_has_made_goes_on(here, run):
    old = f"{here.spec.id}-{run}" if run else here.spec.id
    if run:
        (here.state / "run").write_text(run)
    # Its daemon has this mark, and so has the one that a supervisor of this version starts.
    assert here.mark() == old
    assert not here.foreign(old)
    new = here.mount()
    assert new != old
    # What it has uploaded cannot be told from the uploads of another machine: it counts as ours.
    assert not here.foreign(old)
    assert not here.foreign(new)


def test_without_a_mark_nobody_can_tell(here):
    here.mount()
    assert not here.foreign("")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_tag_is_made_anew_and_nothing_else_is_lost(here, content):
    (here.cache / "waiting").write_bytes(b"x")
    (here.cache / upload_tag.TAG_NAME).write_bytes(content)
    mark = here.mount()
    assert not here.foreign(mark)
    assert here.mount().partition("-")[0] == mark.partition("-")[0]
    assert (here.cache / "waiting").exists()


def test_a_cache_that_takes_no_tag_has_one_for_the_run(here):
    (here.cache / upload_tag.TAG_NAME).mkdir()
    mark = here.mount()
    assert here.mark() == mark
    assert not here.foreign(mark)
    # Whose the others are, nobody knows any more: none is passed over.
    assert not here.foreign(f"{'0' * 32}-0123456789ab")


def test_it_is_nobody_else_s_to_read(here):
    here.mount()
    assert (here.cache / upload_tag.TAG_NAME).stat().st_mode & 0o077 == 0


def test_another_place_is_another_mount(here):
    mine = here.mount()
    other = replace(here.spec, target="/elsewhere")
    # Where the cache is the same one, what it has uploaded is its own, whatever it is mounted at.
    assert not upload_tag.is_foreign(mine, other, here.state)


def test_nodes_of_one_run_that_share_a_home_have_each_a_cache_and_a_mark(tmp_path):
    places = {"cache_dir": tmp_path / "home", "state_dir": tmp_path / "state"}
    nodes = [Settings(backend="rclone", node=node, **places) for node in (0, 1, 2)]
    source, target, settings = "s3://bucket/run", str(tmp_path / "mnt"), nodes[0]
    specs = [resolve_mount_spec(source, target, each) for each in nodes]
    assert len({spec.id for spec in specs}) == len({spec.cache_dir for spec in specs}) == 3
    known, marks = State(settings.state_dir), []
    for spec in specs:
        Path(spec.cache_dir).mkdir(parents=True)
        directory = known.directory(spec.id)
        upload_tag.begin(directory, Path(spec.cache_dir))
        directory.write(MountRecord(spec, SERVING, now(), ProcessIdentity.mine()))
        cache_lock.sign(spec)
        marks.append(upload_tag.value(directory.path, spec.id))
    for spec, mark in zip(specs, marks, strict=True):
        directory = known.directory(spec.id)
        assert [upload_tag.is_foreign(each, spec, directory.path) for each in marks] == [
            each != mark for each in marks
        ]
        # Whoever finds the record, or the cache, finds the same mount.
        assert directory.read().spec == spec
        assert cache_lock.owner(Path(spec.cache_dir)).id == spec.id


def test_a_mount_without_a_node_is_the_one_that_it_was(here):
    assert here.spec.id == mount_id(here.spec.source, "/mnt", StoreOptions())
    assert replace(here.spec, node="0").id != here.spec.id
