"""Which backend is taken when nobody says."""

from __future__ import annotations

import pytest

from mountkit.backends import selection
from mountkit.backends.selection import GIB, Machine, decide
from mountkit.errors import MountUnavailableError, UsageError

MISSING = "There is no such thing on PATH."


@pytest.mark.parametrize(
    ("rclone", "mountpoint", "room", "name", "why"),
    [
        ("", "", 100 * GIB, "rclone", "rides out an outage"),
        ("", MISSING, 100 * GIB, "rclone", "rides out an outage"),
        (MISSING, "", 100 * GIB, "mountpoint", MISSING),
        ("", "", GIB, "mountpoint", "only 1.0 GiB"),
        ("", MISSING, GIB, "rclone", MISSING),
        (MISSING, "", 0, "mountpoint", MISSING),
    ],
)
def test_what_there_is_decides_and_is_told(rclone, mountpoint, room, name, why):
    choice = decide(Machine(rclone, mountpoint, room))
    assert choice is not None
    assert choice.name == name
    assert why in choice.why


def test_a_second_program_is_asked_only_if_it_matters(tmp_path):
    asked = []

    def ask(name: str, _: str) -> str:
        asked.append(name)
        return ""

    assert selection.choose("", tmp_path, ask).name == "rclone"
    assert asked == ["rclone"]


def test_with_neither_there_is_no_choice():
    assert decide(Machine(MISSING, MISSING, 100 * GIB)) is None


def test_a_machine_with_neither_is_told_what_to_install(tmp_path):
    with pytest.raises(MountUnavailableError) as caught:
        selection.choose("", tmp_path / "not" / "there", lambda name, _: f"There is no {name}.")
    assert "There is no rclone." in caught.value.message
    assert "There is no mountpoint." in caught.value.message
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("scheme", ["gs", "rclone", "hdfs"])
def test_what_is_not_s3_is_mounted_by_rclone_alone(tmp_path, scheme):
    asked = []

    def ask(name: str, _: str) -> str:
        asked.append(name)
        return ""

    choice = selection.choose("", tmp_path, ask, scheme=scheme)
    assert (choice.name, asked) == ("rclone", ["rclone"])
    assert f"{scheme}://" in choice.why
    with pytest.raises(MountUnavailableError, match=f"{scheme}://.*{MISSING}"):
        selection.choose("", tmp_path, lambda *_: MISSING, scheme=scheme)


def test_a_backend_that_does_not_mount_a_store_is_refused():
    for name in ("rclone", "mountpoint"):
        selection.refuse_scheme(name, "s3")
    selection.refuse_scheme("rclone", "gs")
    with pytest.raises(UsageError, match="mountpoint mounts s3:// only, and not gs://") as caught:
        selection.refuse_scheme("mountpoint", "gs")
    assert "--backend rclone" in caught.value.hint
