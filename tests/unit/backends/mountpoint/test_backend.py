"""How Mountpoint is started, and what of the mount table is ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.backends.base import Binary
from mountkit.backends.file_operations import NAMES, OPERATIONS
from mountkit.backends.mountpoint.backend import (
    LARGEST_PART,
    MIB,
    PARTS,
    READ_PART,
    SMALLEST_PART,
    WRITERS,
    MountpointBackend,
    memory_target,
    part_size,
)
from mountkit.errors import UsageError
from mountkit.linux.mount_table import MountEntry
from mountkit.spec import MountSpec, Source, StoreOptions

BACKEND = MountpointBackend()
ENDPOINT = StoreOptions(endpoint_url="http://127.0.0.1:9000", region="eu-west-1", profile="me")


def argv(options=(), store=StoreOptions(), version=(1, 24, 0), prefix="run-1"):  # noqa: B008
    place = Source("s3", "bucket", prefix)
    spec = MountSpec(place, "/mnt/a b", "mountpoint", store, "/cache", tuple(options))
    binary = Binary("/bin/mount-s3", version)
    return BACKEND.command(spec, binary, Path("/state"), {"PATH": "/bin"}).argv


class TestCommand:
    def test_bucket_target_and_what_a_trainer_needs(self):
        words = argv()
        assert words[:3] == ("/bin/mount-s3", "bucket", "/mnt/a b")
        assert {"--foreground", "--allow-delete", "--allow-overwrite"} < set(words)
        assert "--prefix=run-1/" in words

    def test_a_whole_bucket_has_no_prefix(self):
        assert not any(word.startswith("--prefix") for word in argv(prefix=""))

    def test_a_store_of_ones_own_is_asked_by_path(self):
        words = argv(store=ENDPOINT)
        assert "--endpoint-url=http://127.0.0.1:9000" in words
        assert {"--force-path-style", "--region=eu-west-1", "--profile=me"} < set(words)

    def test_on_aws_there_is_no_endpoint(self):
        assert not any("endpoint" in word or "path-style" in word for word in argv())

    @pytest.mark.parametrize(
        ("version", "checksums", "memory"),
        [((1, 22, 0), False, False), ((1, 23, 0), True, False), ((1, 24, 1), True, True)],
    )
    def test_flags_that_an_older_version_does_not_know_are_left_out(
        self, version, checksums, memory
    ):
        words = argv(version=version)
        assert ("--upload-checksums=crc64nvme" in words) is checksums
        assert any(word.startswith("--memory-target=") for word in words) is memory

    def test_an_option_wins_and_a_flag_is_switched_by_true_and_false(self):
        words = argv([("upload-checksums", "off"), ("debug", "true"), ("allow-delete", "false")])
        assert "--upload-checksums=off" in words
        assert "--upload-checksums=crc64nvme" not in words
        assert "--debug" in words
        assert "--allow-delete" not in words

    @pytest.mark.parametrize("name", ["prefix", "read-only", "Foreground", "endpoint-url"])
    def test_what_mountkit_sets_itself_is_refused(self, name):
        with pytest.raises(UsageError, match="mountkit's own"):
            BACKEND.check_options([(name, "x")])

    def test_nothing_secret_is_on_the_command_line(self):
        assert not any("secret" in word or "access" in word for word in argv(store=ENDPOINT))


@pytest.mark.fault(16)
class TestPartSize:
    @given(st.integers(1, LARGEST_PART * PARTS))
    def test_a_file_of_that_size_fits(self, largest):
        part = part_size(largest)
        assert part * PARTS >= largest
        assert part >= SMALLEST_PART
        assert part % MIB == 0
        assert part == SMALLEST_PART or (part - MIB) * PARTS < largest, "no larger than needed"

    def test_more_than_the_store_takes_is_refused(self):
        with pytest.raises(UsageError, match="--largest-file"):
            part_size(LARGEST_PART * PARTS + 1)


@pytest.mark.fault(17)
@given(st.integers(0, 2**44), st.integers(SMALLEST_PART, LARGEST_PART))
def test_the_memory_target_leaves_room_for_sixteen_writers(limit, part):
    target = memory_target(limit, part)
    overhead = max(128 * MIB, target // 8)
    assert (target - overhead - READ_PART) // part >= WRITERS
    assert target >= 512 * MIB


def test_a_training_process_keeps_most_of_the_memory():
    assert memory_target(64 * 1024 * MIB, 16 * MIB) == 4096 * MIB
    assert memory_target(16 * 1024 * MIB, 16 * MIB) == 2048 * MIB


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    ("source", "minor", "device", "ours"),
    [
        ("mountpoint-s3", 57, 57, True),
        ("mountpoint-s3", 57, 58, False),
        ("mountpoint-s3", 57, None, False),
        ("mountkit-0123456789ab", 57, 57, False),
    ],
)
def test_the_device_it_was_seen_with_decides(source, minor, device, ours):
    entry = MountEntry("/mnt", "fuse", source, minor)
    assert BACKEND.matches(entry, "0123456789ab", device) is ours


def test_what_it_refuses_are_operations():
    assert BACKEND.unsupported_operations < NAMES
    essential = {operation.name for operation in OPERATIONS if operation.essential}
    assert not BACKEND.unsupported_operations & essential
