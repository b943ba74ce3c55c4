"""What a measurement says: the recommendation, the table, the object; what becomes of errors."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import time
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit import backends
from mountkit import bench as measure
from mountkit.backends.base import Binary
from mountkit.backends.file_operations import OPERATIONS
from mountkit.bench import benchmark, cleanup, timed_save, timed_save_child
from mountkit.bench.report import Figures, Missed, Report, Round, paired, recommend, seconds, times
from mountkit.bench.timed_save import SaveError
from mountkit.cli import bench as cli_bench
from mountkit.cli.options import size_of
from mountkit.config.settings import Settings
from mountkit.doctor.disk_space import Disk
from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    PermissionDeniedError,
    UsageError,
)
from mountkit.linux import mount_table
from mountkit.spec import Source

REFUSED = frozenset({"rename", "chmod", "seek", "append"})
SECONDS = st.floats(0.01, 1000)


def figures(backend: str, *saves: float, proven: float = 4.0, refuses=frozenset()) -> Figures:
    rounds = tuple(Round(each, proven, 0.25) for each in saves)
    return Figures(backend, "1.2.3", refuses, rounds)


def rclone(*saves: float, **how) -> Figures:
    return figures("rclone", *saves, **how)


def mountpoint(*saves: float, **how) -> Figures:
    return figures("mountpoint", *saves, refuses=REFUSED, **how)


def report(*measured: Figures, **changes) -> Report:
    how = {"local": (0.5, 0.5, 1.0), "local_problem": "", "missed": (), "left": (), **changes}
    return Report(source="s3://b/p", size=256_000_000, measured=measured, **how)


class TestRecommendation:
    def test_what_refuses_nothing_and_is_faster(self):
        chosen = recommend([rclone(0.5, 0.5), mountpoint(1.5, 1.5)])
        assert chosen.flag == "--backend rclone"
        assert chosen.why == (
            "a save blocks 0.50 s with it, 1.50 s with mountpoint, and mountpoint cannot "
            "rename, chmod, seek or append"
        )

    def test_what_refuses_something_has_to_be_clearly_faster(self):
        chosen = recommend([rclone(1.4), mountpoint(1.0)])
        assert chosen.backend == "rclone"
        assert "mountpoint is not clearly faster here" in chosen.why

    def test_where_it_is_clearly_faster(self):
        chosen = recommend([rclone(3.0), mountpoint(1.0)])
        assert chosen.flag == "--backend mountpoint"
        assert chosen.why == (
            "a save blocks 1.00 s with it, 3.00 s with rclone; but it cannot "
            "rename, chmod, seek or append"
        )

    def test_where_both_block_alike_the_proof_decides(self):
        chosen = recommend([rclone(1.0, proven=6.0), mountpoint(1.05, proven=2.0)])
        assert chosen.backend == "mountpoint"
        assert chosen.why.startswith("a save is proven after 2.00 s with it, 6.00 s with rclone")

    def test_a_quick_proof_is_not_worth_a_long_save(self):
        assert recommend([rclone(0.3, proven=2.0), mountpoint(0.9, proven=0.9)]).backend == "rclone"

    def test_what_speaks_against_it_is_said_too(self):
        chosen = recommend([rclone(0.3, proven=2.0), mountpoint(0.9, proven=0.9)])
        assert "0.90 s with mountpoint (where it is proven sooner), and mountpoint" in chosen.why

    def test_times_are_compared_round_by_round(self):
        """The whole machine was slow for a round: of both backends, not of one of them."""
        slow = recommend([rclone(3.0, 30.0, 3.0), mountpoint(1.0, 10.0, 1.0)])
        assert slow.backend == "mountpoint"

    def test_the_only_one(self):
        chosen = recommend([mountpoint(1.0)])
        assert chosen.backend == "mountpoint"
        assert "only backend" in chosen.why

    def test_two_that_refuse_the_same(self):
        one, other = figures("one", 1.0, refuses=REFUSED), figures("other", 0.5, refuses=REFUSED)
        chosen = recommend([one, other])
        assert chosen.backend == "other"
        assert chosen.why == "a save blocks 0.50 s with it, 1.00 s with one"
        alike = figures("other", 1.0, refuses=REFUSED)
        assert recommend([one, alike]).why == "other is not faster here"

    @given(SECONDS, SECONDS, SECONDS, SECONDS)
    def test_the_order_does_not_matter(self, save, other_save, proven, other_proven):
        one = rclone(save, proven=proven)
        other = mountpoint(other_save, proven=other_proven)
        assert recommend([one, other]) == recommend([other, one])
        assert recommend([one, other]).backend in {"rclone", "mountpoint"}


def test_ratios_are_medians_of_the_rounds():
    assert paired([1, 4, 1], [1, 1, 2]) == 1
    assert report(rclone(1.0, 1.0, 4.0)).against_local([1.0, 1.0, 4.0]) == 2
    assert report(rclone(1.0), local=()).against_local([1.0]) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0434, "0.043 s"), (0.314, "0.31 s"), (12.44, "12.4 s"), (136, "136 s"), (7200, "7,200 s")],
)
def test_seconds(value, text):
    assert seconds(value) == text


def test_times():
    assert [times(each) for each in (1.04, 9.94, 26.6, 1234)] == [
        "1.0x", "9.9x", "27x", "1,234x",
    ]  # fmt: skip


class TestObject:
    def keys(self, found) -> set[str]:
        if isinstance(found, dict):
            return set(found).union(*map(self.keys, found.values()))
        return set().union(*map(self.keys, found)) if isinstance(found, list) else set()

    def test_its_help_names_every_key(self):
        missed = (Missed("mountpoint", "There is no mount-s3 on PATH.", "Install it"),)
        told = report(rclone(0.5, 1.0, 1.5), missed=missed, left=("x",)).to_json()
        assert json.loads(json.dumps(told)) == told
        help_text = cli_bench.command.help or ""
        assert {key for key in self.keys(told) if not re.search(rf"\b{key}\b", help_text)} == set()

    def test_what_it_says(self):
        told = report(rclone(0.5, 1.0, 1.5), mountpoint(3.0, 3.0, 3.0)).to_json()
        [first, second] = told["backends"]
        assert first["save_seconds"] == 1.0
        assert first["save_ratio"] == 1.5
        assert first["megabytes_per_second"] == 256
        assert first["refuses"] == []
        assert len(first["rounds"]) == told["rounds"] == 3
        assert second["refuses"] == sorted(REFUSED)
        assert told["local"] == {"save_seconds": 0.5, "megabytes_per_second": 512, "problem": ""}
        assert told["recommendation"]["flag"] == "--backend rclone"

    def test_without_a_local_disk(self):
        told = report(rclone(0.5), local=(), local_problem="no space").to_json()
        assert told["local"]["save_seconds"] is None
        assert told["local"]["problem"] == "no space"
        assert told["backends"][0]["save_ratio"] is None


class TestTable:
    @pytest.fixture
    def lines(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")

        def show(found: Report) -> list[str]:
            cli_bench._print(found)
            return capsys.readouterr().out.splitlines()

        return show

    def test_it_fits_and_ends_with_what_to_do(self, lines):
        found = lines(report(rclone(0.5, 1.0, 1.5), mountpoint(300.0, 300.0, 300.0)))
        assert max(map(len, found)) <= 80
        text = " ".join(" ".join(found).split())
        assert "rclone 1.00 s 1.5x 256 4.00 s 8.0x 0.25 s" in text
        assert "local disk 0.50 s 1.0x 512" in text
        assert text.endswith(
            "Use --backend rclone: a save blocks 1.00 s with it, 300 s with mountpoint, and "
            "mountpoint cannot rename, chmod, seek or append."
        )
        for operation in OPERATIONS:
            assert (operation.does in text) == (operation.name in REFUSED)
        assert "rclone can do all that a save does" in text

    def test_what_was_not_measured(self, lines):
        missed = (Missed("mountpoint", "There is no mount-s3 on PATH.", "Install it"),)
        text = "\n".join(lines(report(rclone(0.5, 0.5, 0.5), missed=missed)))
        assert "mountpoint was not measured: There is no mount-s3 on PATH." in text
        assert "-> Install it" in text

    def test_without_a_local_disk(self, lines):
        text = "\n".join(lines(report(rclone(0.5), local=(), local_problem="no space")))
        assert "None to the local disk to compare with: no space." in text
        assert not re.search(r"\dx", text)


class TestCommand:
    @pytest.mark.parametrize("text", ["much", "0", "-1GB", ""])
    def test_a_size_that_is_none(self, text):
        with pytest.raises(UsageError, match="is not a size"):
            size_of("--size", text, "256MB", least=1)

    def test_sizes(self):
        assert size_of("--size", "256MB", "1GB") == 256_000_000
        assert size_of("--size", "1GiB", "1GB") == 2**30

    def test_a_signal_ends_it_and_one_more_does_not_cut_the_end_short(self, capfd):
        with cli_bench._interrupts() as hold:
            with pytest.raises(SystemExit) as stop:
                signal.raise_signal(signal.SIGTERM)
            assert stop.value.code == 128 + signal.SIGTERM
            hold()
            signal.raise_signal(signal.SIGINT)
            assert "once more to leave it" in capfd.readouterr().err
            with pytest.raises(SystemExit):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestSave:
    def test_it_says_how_long_it_took(self, tmp_path):
        before = time.monotonic()
        saved = timed_save.save(str(tmp_path / "c"), 3_000_001, fsync=True, limit=60)
        assert before < saved.began < saved.began + saved.seconds < time.monotonic()
        sizes = {path.name: path.stat().st_size for path in (tmp_path / "c").iterdir()}
        assert set(sizes) == set(timed_save.FILES)
        assert sizes["model.safetensors"] == 3_000_001
        for name in timed_save_child.SMALL:
            assert sizes[name] > 0

    def test_nothing_can_compress_it(self):
        pool = memoryview(os.urandom(timed_save_child.POOL_BYTES))
        pieces = [
            bytes(piece)
            for piece in timed_save_child.weights(pool, 40 * timed_save_child.PIECE_BYTES)
        ]
        assert len(set(pieces)) == len(pieces) == 40
        assert len(zlib.compress(b"".join(pieces[:4]), 1)) > 4 * timed_save_child.PIECE_BYTES

    def test_an_error_names_the_call_and_the_file(self, tmp_path):
        with pytest.raises(SaveError) as failed:
            timed_save.save(str(tmp_path / "no" / "c"), 10, fsync=False, limit=60)
        assert failed.value.errno == errno.ENOENT
        assert failed.value.call == "mkdir"
        assert failed.value.filename == str(tmp_path / "no" / "c")

    def test_it_is_not_waited_for_longer(self, tmp_path, monkeypatch):
        script = tmp_path / "hang.py"
        script.write_text("import time\ntime.sleep(3600)\n")
        monkeypatch.setattr(timed_save, "SCRIPT", script)
        with pytest.raises(SaveError, match="longer than 0 s"):
            timed_save.save(str(tmp_path / "c"), 10, fsync=False, limit=0.3)

    def test_a_helper_that_breaks(self, tmp_path, monkeypatch):
        script = tmp_path / "broken.py"
        script.write_text("raise RuntimeError('out of luck')\n")
        monkeypatch.setattr(timed_save, "SCRIPT", script)
        with pytest.raises(SaveError, match="out of luck"):
            timed_save.save(str(tmp_path / "c"), 10, fsync=False, limit=60)


class TestLeftovers:
    """A store that does as it is told, or not."""

    class Store:
        def __init__(self, *objects: str, stubborn: bool = False, refuses: str = "") -> None:
            self.source = Source("s3", "b", "p/.mountkit-bench-x")
            self.objects = list(objects)
            self.aborted = False
            self._stubborn = stubborn
            self._refuses = refuses

        def url(self, path):
            return self.source.child(path).url

        def list(self, *, markers=False):
            self._refuse("list")
            return [SimpleNamespace(path=path) for path in self.objects]

        def delete(self, paths):
            self._refuse("delete")
            self.objects = self.objects if self._stubborn else []

        def abort_uploads(self):
            self._refuse("uploads")
            self.aborted = True

        def _refuse(self, what):
            if what == self._refuses:
                raise PermissionDeniedError(f"{what} is not allowed.")

    def test_all_of_it_goes(self):
        store = self.Store("rclone/checkpoint-1/config.json", "rclone/checkpoint-1/")
        assert cleanup.sweep(store, broken_off=False) == ()
        assert store.objects == []
        assert store.aborted

    def test_what_stays_is_named(self):
        store = self.Store("rclone/x", stubborn=True)
        [left] = cleanup.sweep(store, broken_off=False)
        assert left.startswith("s3://b/p/.mountkit-bench-x/rclone/x: ")

    @pytest.mark.parametrize("what", ["list", "delete"])
    def test_a_store_that_refuses(self, what):
        [left] = cleanup.sweep(self.Store("x", refuses=what), broken_off=False)
        assert left.startswith(f"s3://b/p/.mountkit-bench-x: {what} is not allowed. ")
        assert left.endswith("aws s3 rm --recursive s3://b/p/.mountkit-bench-x/")

    def test_parts_only_matter_where_an_upload_was_cut_short(self):
        assert cleanup.sweep(self.Store("x", refuses="uploads"), broken_off=False) == ()
        store = self.Store("x", refuses="uploads")
        [left] = cleanup.sweep(store, broken_off=True)
        assert "parts of uploads" in left
        assert store.objects == []

    def test_a_store_that_hangs(self):
        store = self.Store()
        store.list = lambda **_: time.sleep(5)
        [left] = cleanup.sweep(store, broken_off=False, seconds=0.2)
        assert "took longer than 0.2 s" in left


class FakeTrial:
    """A trial that is a script: the rounds of each backend, or what is raised instead."""

    script: dict[str, list[Round | BaseException]]
    ended: list[str]

    def __init__(self, candidate, keep) -> None:
        self.candidate = candidate
        self.broken_off = False
        keep(self)
        self._next = iter(self.script[candidate.backend])

    def warm_up(self) -> None:
        self._take()

    def measure(self, number, doing) -> Round:
        doing("saving")
        return self._take()

    def _take(self) -> Round:
        found = next(self._next)
        if isinstance(found, BaseException):
            raise found
        return found

    def end(self) -> None:
        self.ended.append(self.candidate.backend)


GOOD = Round(1.0, 2.0, 0.2)
BAD = PermissionDeniedError("The store refuses the upload.", hint="Ask for more")
WORSE = ConfigurationError("No such thing.")


class TestMeasure:
    @pytest.fixture
    def ask(self, tmp_path, monkeypatch):
        """Measure with scripted trials; the report, and all that was told."""
        FakeTrial.ended = []
        swept: list[tuple[str, bool]] = []
        told: list[str] = []

        class Store:
            def __init__(self, source, options) -> None:
                self.source = source

            def check(self) -> None:
                pass

        def sweep(store, *, broken_off):
            swept.append((store.source.url, broken_off))
            return ("s3://b/left: it stays",)

        monkeypatch.setattr(measure.fusermount, "fusermount", lambda _: "fusermount3")
        monkeypatch.setattr(measure, "open_store", Store)
        monkeypatch.setattr(benchmark, "open_store", Store)
        monkeypatch.setattr(benchmark, "BackendRun", FakeTrial)
        monkeypatch.setattr(benchmark.cleanup, "sweep", sweep)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        (tmp_path / "tmp").mkdir()
        for name in backends.NAMES:
            kind = type(backends.load(name))
            monkeypatch.setattr(kind, "binary", lambda *_: Binary("/opt/x", (1, 75, 2)))

        def call(rounds: int = 2, size: int = 1000, **script) -> Report:
            FakeTrial.script = {name: list(found) for name, found in script.items()}
            settings = Settings(cache_dir=tmp_path / "c", state_dir=tmp_path / "s")
            return measure.measure(settings, "s3://b/p", size=size, rounds=rounds, tell=told.append)

        call.told, call.swept, call.tmp = told, swept, tmp_path
        return call

    def test_both(self, ask):
        found = ask(rclone=[GOOD] * 3, mountpoint=[GOOD] * 3)
        assert [each.backend for each in found.measured] == ["rclone", "mountpoint"]
        assert [len(each.rounds) for each in found.measured] == [2, 2]
        assert [each.version for each in found.measured] == ["1.75.2", "1.75.2"]
        assert len(found.local) == 2
        turns = [line.split(":")[0] for line in ask.told if line.startswith("round")]
        assert turns == [
            "round 1/2, rclone", "round 1/2, mountpoint",
            "round 2/2, mountpoint", "round 2/2, rclone",
        ]  # fmt: skip
        assert sorted(FakeTrial.ended) == ["mountpoint", "rclone"]

    def test_all_is_written_below_a_prefix_of_its_own(self, ask):
        ask(rclone=[GOOD] * 3, mountpoint=[GOOD] * 3)
        [(url, broken_off)] = ask.swept
        assert re.fullmatch(r"s3://b/p/\.mountkit-bench-[0-9a-f]{8}", url)
        assert not broken_off

    def test_what_stays_is_told_and_reported(self, ask):
        found = ask(rclone=[GOOD] * 3, mountpoint=[GOOD] * 3)
        assert found.left == ("s3://b/left: it stays",)
        assert "not taken away: s3://b/left: it stays" in ask.told

    def test_nothing_stays_on_this_machine(self, ask):
        ask(rclone=[GOOD] * 3, mountpoint=[GOOD] * 3)
        assert list((ask.tmp / "tmp").iterdir()) == []
        assert list((ask.tmp / "c").iterdir()) == []

    @pytest.mark.parametrize("turn", range(3), ids=["warm-up", "first", "last"])
    def test_one_that_fails_leaves_the_other(self, ask, turn):
        script = [GOOD] * turn + [BAD]
        found = ask(rclone=script, mountpoint=[GOOD] * 3)
        assert [each.backend for each in found.measured] == ["mountpoint"]
        [missed] = found.missed
        assert missed == Missed("rclone", BAD.message, BAD.hint)
        assert f"rclone: {BAD.message}" in ask.told

    def test_an_error_of_the_system_is_one_of_ours(self, ask):
        full = OSError(errno.ENOSPC, "No space left on device", "/full")
        found = ask(rclone=[full], mountpoint=[GOOD] * 3)
        [missed] = found.missed
        assert "/full: No space left on device" in missed.problem
        assert missed.hint.endswith("df -h /full")

    def test_the_first_reason_if_nothing_comes_of_it(self, ask):
        with pytest.raises(PermissionDeniedError, match="refuses the upload"):
            ask(rclone=[GOOD, BAD], mountpoint=[GOOD, GOOD, WORSE])
        assert ask.swept, "nothing was removed"
        assert sorted(set(FakeTrial.ended)) == ["mountpoint", "rclone"]

    def test_the_end_comes_after_an_interrupt_too(self, ask):
        with pytest.raises(KeyboardInterrupt):
            ask(rclone=[GOOD] * 3, mountpoint=[GOOD, KeyboardInterrupt()])
        assert ask.swept
        assert sorted(FakeTrial.ended) == ["mountpoint", "rclone"]

    def test_one_that_is_not_there(self, ask, monkeypatch):
        def missing(*_):
            raise MountUnavailableError("There is no mount-s3 on PATH.", hint="Install it")

        monkeypatch.setattr(type(backends.load("mountpoint")), "binary", missing)
        found = ask(rclone=[GOOD] * 3)
        assert [each.backend for each in found.measured] == ["rclone"]
        assert found.missed == (
            Missed("mountpoint", "There is no mount-s3 on PATH.", "Install it"),
        )
        monkeypatch.setattr(type(backends.load("rclone")), "binary", missing)
        ask.swept.clear()
        with pytest.raises(MountUnavailableError, match="mount-s3"):
            ask()
        assert ask.swept == [], "nothing was written"

    def test_a_size_for_which_there_is_no_room(self, ask, monkeypatch):
        disk = Disk("/cache", 10)
        monkeypatch.setattr(benchmark.machine, "look_at_disk", lambda _: disk)
        found = ask(mountpoint=[GOOD] * 3)
        [missed] = found.missed
        assert missed.backend == "rclone"
        assert "/cache has 0 kB free" in missed.problem
        assert "--size" in missed.hint
        assert found.local == (), "the disk was filled"
        assert "0 kB" in found.local_problem

    def test_a_mount_that_stays_is_named(self, ask, monkeypatch):
        monkeypatch.setattr(mount_table, "at", lambda target: target)
        found = ask(rclone=[GOOD] * 3, mountpoint=[GOOD] * 3)
        assert sum("mountkit umount --discard" in text for text in found.left) == 2
