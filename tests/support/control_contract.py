"""What every backend's ``Control`` has to do, for real daemons and for the one of the unit tests.

A suite is a class with a fixture ``held``; its tests may share one mount, and each has a directory
of its own in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mountkit.checkpoints.attestation import attest_object
from mountkit.store.checksums import REFERENCE, digest_bytes
from support.rig import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from mountkit.backends.base import Control, WrittenFile
    from mountkit.store.base import Store


class Held(Protocol):
    """A mount that serves."""

    control: Control
    store: Store

    def write(self, path: str, text: str) -> None:
        """Make a file with that text, and close it."""

    def remove(self, path: str) -> None:
        """Remove it through the mount."""

    def upload(self, path: str) -> None:
        """Let it arrive, if it does not by itself once the daemon was pushed."""

    def end(self) -> None:
        """The daemon ends; all has arrived."""


def settled(held: Held, path: str, text: str) -> WrittenFile:
    """Have a file uploaded; what the control says of it then."""
    held.upload(path)
    value = digest_bytes(text.encode()).values[REFERENCE]

    def arrived() -> bool:
        pending = held.control.flush_uploads()
        assert (pending.errors, pending.lost) == ((), ())
        reference = held.control.reference(path)
        return (
            reference is not None
            and reference.digest.values[REFERENCE] == value
            and attest_object(held.store, path, reference.digest, reference.local).ok
        )

    eventually(arrived, f"{path} in the store", 30)

    def clean() -> WrittenFile | None:
        below = path.rpartition("/")[0]
        (file,) = [file for file in held.control.files(below) if file.path == path]
        return None if file.dirty else file

    found: WrittenFile = eventually(clean, f"{path} said to be uploaded", 30)
    assert path not in held.control.flush_uploads().waiting
    return found


class ControlContract:
    def test_a_file_that_was_written(self, held: Held) -> None:
        for path in ("one/a", "one/b/c", "one-more/a"):
            held.write(path, path)
        for path in ("one/a", "one/b/c", "one-more/a"):
            file = settled(held, path, path)
            assert (file.size, file.gone) == (len(path), False)
            assert file.modified > 0
        assert [file.path for file in held.control.files("one")] == ["one/a", "one/b/c"]
        assert [file.path for file in held.control.files("one/b")] == ["one/b/c"]
        assert {"one/a", "one-more/a"} <= {file.path for file in held.control.files()}
        reference = held.control.reference("one/a")
        assert reference is not None
        assert (reference.digest.size, reference.taken) == (5, "mount")
        assert reference.local is None or reference.local.read_bytes() == b"one/a"
        assert held.control.content("one/a") in {None, b"one/a"}
        assert held.control.last_error() is None

    def test_written_again_it_is_another_one(self, held: Held) -> None:
        held.write("again/a", "first")
        before = settled(held, "again/a", "first")
        held.write("again/a", "second one")
        after = settled(held, "again/a", "second one")
        assert after.stamp != before.stamp
        assert after.size == 10
        assert len(held.control.files("again")) == 1

    def test_removed_it_is_gone(self, held: Held) -> None:
        held.write("less/a", "text")
        settled(held, "less/a", "text")
        held.remove("less/a")
        eventually(lambda: held.control.files("less") == (), "gone", 30)
        assert held.control.reference("less/a") is None
        assert held.control.content("less/a") is None
        # Not a checkpoint whose state was written before.
        assert held.control.partially_deleted("less") == ()

    def test_a_local_copy_is_dropped_only_as_it_was_seen(self, held: Held) -> None:
        held.write("copies/a", "text")
        seen = settled(held, "copies/a", "text")
        held.write("copies/b", "first")
        before = settled(held, "copies/b", "first")
        held.write("copies/b", "second one")
        stay = held.control.evict([seen, before])
        # Where there are no copies, none stays either.
        listed = {file.path for file in held.control.files("copies")}
        assert stay == ("copies/b",) if held.control.content("copies/b") else not stay
        assert "copies/b" in listed
        assert held.control.content("copies/a") is None
        settled(held, "copies/b", "second one")
        assert held.store.get("copies/a") == b"text"

    def test_nothing_is_known_of_what_nobody_wrote(self, held: Held) -> None:
        control = held.control
        assert control.files("none") == ()
        assert control.reference("none/a") is None
        assert control.content("none/a") is None
        assert control.explain("none/a") == ""
        assert control.emptied("none") == 0.0
        assert control.partially_deleted("none") == control.leftovers("none") == ()
        assert control.links_out() == ()
        assert control.log_gaps() == ()

    def test_a_daemon_that_is_confirmed_holds_no_more_than_before(self, held: Held) -> None:
        before = held.control.files()
        held.control.self_check()
        held.control.invalidate_directory("")
        held.control.invalidate_directory("none")
        assert held.control.files() == before


class EndedContract:
    """Of a daemon that ended after all had arrived; it gets a mount of its own."""

    def test_it_leaves_nothing_to_mend(self, held: Held, tmp_path: Path) -> None:
        held.write("end/a", "text")
        settled(held, "end/a", "text")
        held.end()
        quarantine = tmp_path / "aside"
        assert held.control.repair_cache(quarantine) == ()
        held.control.reconcile_leftovers(quarantine, (), ())
        assert not quarantine.exists() or not any(quarantine.iterdir())
        held.control.purge()
        assert held.control.content("end/a") is None
        assert not any(file.dirty for file in held.control.files())
        assert held.store.get("end/a") == b"text"
