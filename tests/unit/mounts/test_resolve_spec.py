"""What may be mounted where."""

from __future__ import annotations

import pytest

from mountkit.config.settings import Settings
from mountkit.errors import UsageError
from mountkit.mounts.resolve_spec import resolve_mount_spec


def resolved(tmp_path, source, target, backend="rclone", **more):
    settings = Settings(backend=backend, **more, cache_dir=tmp_path / "cache")
    return resolve_mount_spec(source, target, settings)


@pytest.mark.parametrize("below", ["", "/deep/er", "/.."])
def test_a_directory_is_not_mounted_over_itself(tmp_path, below):
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    target = f"{tmp_path}/disk{below}"
    for source in (f"file://{tmp_path}/disk", f"file://{tmp_path}/link"):
        with pytest.raises(UsageError, match="lie in each other"):
            resolved(tmp_path, source, target)


def test_beside_it_it_is(tmp_path):
    spec = resolved(tmp_path, f"file://{tmp_path}/disk/run", tmp_path / "disk" / "run-1")
    assert (spec.source.directory, spec.target) == (
        f"{tmp_path}/disk/run",
        f"{tmp_path}/disk/run-1",
    )


def test_nor_does_its_cache_lie_in_it(tmp_path):
    with pytest.raises(UsageError, match="lies in the source") as caught:
        resolved(tmp_path, f"file://{tmp_path}", "/mnt/elsewhere")
    assert f"file://{tmp_path}/run-1" in caught.value.hint


@pytest.mark.parametrize("asked", ["auto", "direct"])
def test_a_target_that_is_its_source_needs_no_mount(tmp_path, asked):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for source, target in (
        ("disk", "disk"),
        ("link", "link"),
        ("link", "disk"),
        ("disk", "./link"),
    ):
        spec = resolved(tmp_path, f"file://{tmp_path}/{source}", f"{tmp_path}/{target}", asked)
        assert (spec.backend, spec.target) == ("direct", f"{tmp_path}/disk")


def test_that_backend_serves_nothing_else_and_no_second_node(tmp_path):
    source = f"file://{tmp_path}/disk"
    for target, more in (("elsewhere", {}), ("disk/deeper", {}), ("disk", {"node": 1})):
        with pytest.raises(UsageError):
            resolved(tmp_path, source, tmp_path / target, "direct", **more)
    with pytest.raises(UsageError):
        resolved(tmp_path, "s3://bucket/run", tmp_path / "disk", "direct")
