"""The mount table: the kernel's escapes, odd lines, and stacked mounts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mountkit.linux import mount_table
from mountkit.linux.mount_table import MountEntry

ESCAPED = {" ": r"\040", "\t": r"\011", "\n": r"\012", "\\": r"\134", "#": r"\043"}
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


def as_the_kernel_writes(text: str) -> str:
    return "".join(ESCAPED.get(character, character) for character in text)


def line(target: str, fstype: str, source: str, *, minor: int = 52, optional: str = "") -> str:
    left = f"36 35 0:{minor} / {as_the_kernel_writes(target)} rw,nosuid {optional}".rstrip(" ")
    return f"{left} - {fstype} {as_the_kernel_writes(source)} rw,user_id=0"


@given(
    target=PATHS,
    source=NAMES,
    minor=st.integers(0, 2**20),
    optional=st.sampled_from(["", "shared:1", "master:1 propagate_from:2"]),
)
def test_what_the_kernel_escapes_is_read_back(target, source, minor, optional):
    table = line(target, "fuse.rclone", source, minor=minor, optional=optional) + "\n"
    assert mount_table.parse(table) == (MountEntry(target, "fuse.rclone", source, minor),)


@given(st.text())
def test_no_text_makes_it_fail(table):
    for entry in mount_table.parse(table):
        assert isinstance(entry.minor, int)


@given(st.lists(PATHS, max_size=5), st.text(st.sampled_from("ab -\\01\n"), max_size=30))
def test_a_line_it_cannot_mean_hides_no_other(targets, junk):
    good = [line(target, "fuse.rclone", "mountkit-1") for target in targets]
    table = "\n".join([*good, f"junk {junk}".replace(" - ", ""), ""])
    assert [entry.target for entry in mount_table.parse(table)] == targets


def test_a_digit_that_only_looks_octal_stays():
    assert mount_table.parse(line("/a", "tmpfs", "x").replace("/a", r"/a\089\04"))[0].target == (
        r"/a\089\04"
    )


def test_the_table_of_this_machine():
    entry = mount_table.at("/proc")
    assert entry is not None
    assert entry.fstype == "proc"
    assert entry.minor > 0
    assert entry in mount_table.read()


def test_nothing_is_mounted_at_an_ordinary_directory(tmp_path):
    assert mount_table.at(str(tmp_path)) is None
    assert mount_table.at(str(tmp_path / "none")) is None
