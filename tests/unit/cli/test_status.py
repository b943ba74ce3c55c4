"""``mountkit status``: what people read, what programs read, and the live picture."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mountkit
from mountkit.cli import status_view
from mountkit.cli.status import to_json
from mountkit.formatting import timestamp
from mountkit.linux.process import ProcessIdentity
from mountkit.monitoring.snapshot import BROKEN, Amount, Overview
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.proof_stats import Complaint, ProofStats, Proven
from mountkit.state.record import FAILED, MOUNTING, REPAIRING, SERVING, MountRecord, now
from mountkit.state.registry import State

NOW = 1_704_067_200.0
LIMIT = 20.0
SOURCE = Source("s3", "bucket", "team/experiments/run-1")
# Ctrl-C reaches whom the terminal belongs to.
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "mountkit", *sys.argv[1:]])
"""
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300)


def record(**fields) -> MountRecord:
    spec = MountSpec(SOURCE, "/mnt/run-1", "rclone", StoreOptions(), "/cache", why="it is there")
    known = {"since": timestamp(NOW - 7980), **fields}
    return MountRecord(spec, SERVING, supervisor=ProcessIdentity.mine(), **known)


def overview(**fields) -> Overview:
    known = {
        "record": record(),
        "state": SERVING,
        "supervisor_pid": 10,
        "daemon_pid": 11,
        "pending": Amount(),
        "unproven": Amount(),
        "unknown": "",
        "last_error": None,
        "proof_stats": ProofStats(),
    }
    return Overview(**{**known, **fields})


BUSY = overview(
    record=record(remounts=2, reason="rclone ended: killed by SIGKILL"),
    pending=Amount(3, 1_200_000),
    unproven=Amount(8, 1_700_000_000),
    last_error=Complaint("AccessDenied: " + "you may not do this " * 10, timestamp(NOW - 850)),
    proof_stats=ProofStats(Proven("out/checkpoint-300", 300, timestamp(NOW - 725)), 14, 1),
)


class TestCard:
    def test_a_mount_with_nothing_to_tell(self):
        assert status_view.card(overview(), NOW, 80).plain == (
            "/mnt/run-1\n"
            "  state        serving for 2 h 13 min\n"
            "  source       s3://bucket/team/experiments/run-1\n"
            "  backend      rclone\n"
            "  remounts     none\n"
            "  to upload    nothing\n"
            "  unproven     nothing\n"
            "  last proven  nothing yet\n"
            "  last error   none"
        )

    def test_a_mount_that_had_its_troubles(self):
        text = status_view.card(BUSY, NOW, 80).plain
        assert "  remounts     2, last: rclone ended: killed by SIGKILL\n" in text
        assert "  to upload    3 files, 1.2 MB\n" in text
        assert "  unproven     8 files, 1,700.0 MB\n" in text
        assert "  last proven  out/checkpoint-300, 12 min ago; 1 try failed\n" in text
        assert "  last error   14 min ago, before the last proof: AccessDenied: you may" in text

    @pytest.mark.parametrize("mount", [overview(), BUSY], ids=["quiet", "busy"])
    @pytest.mark.parametrize("width", [80, 60, 40])
    def test_it_fits(self, mount, width):
        assert max(map(len, status_view.card(mount, NOW, width).plain.split("\n"))) <= width

    @given(WORDS, WORDS, WORDS)
    def test_whatever_the_store_and_the_files_are_called(self, reason, name, message):
        mount = overview(
            record=record(remounts=1, reason=reason),
            last_error=Complaint(message, timestamp(NOW)),
            proof_stats=ProofStats(Proven(name, 1, timestamp(NOW))),
        )
        lines = status_view.card(mount, NOW, 80).plain.split("\n")
        assert max(map(len, lines)) <= 80

    def test_names_that_would_break_the_picture_are_quoted(self):
        proven = Proven("a\n\x1b[2Jb", 1, timestamp(NOW))
        text = status_view.card(overview(proof_stats=ProofStats(proven)), NOW, 80).plain
        assert "\x1b" not in text
        assert len(text.split("\n")) == len(status_view.card(overview(), NOW, 80).plain.split("\n"))

    def test_for_a_program_no_line_is_wrapped(self):
        assert len(status_view.card(BUSY, NOW, None).plain.split("\n")) == 9

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"state": MOUNTING}, "mounting for 2 h 13 min"),
            (
                {"state": BROKEN, "supervisor_pid": None, "daemon_pid": None},
                "broken: nobody looks after it. Next: mountkit umount /mnt/run-1",
            ),
            (
                {"supervisor_pid": None},
                "serving, but nobody looks after it. Next: the same mountkit mount again",
            ),
            ({"state": REPAIRING}, "repairing"),
            (
                {
                    "state": REPAIRING,
                    "record": replace(record(reason="it died"), state=REPAIRING),
                },
                "repairing for 2 h 13 min: it died",
            ),
            (
                {"state": FAILED, "record": record(reason="10 attempts failed")},
                "given up 2 h 13 min ago: 10 attempts failed",
            ),
        ],
    )
    def test_the_state_and_what_to_do_about_it(self, fields, says):
        rows = dict(status_view.rows(overview(**fields), NOW))
        assert rows["state"] == says

    def test_what_nobody_can_tell(self):
        rows = dict(
            status_view.rows(overview(pending=None, unproven=None, unknown="It is away."), NOW)
        )
        assert rows["to upload"] == rows["unproven"] == "not known: It is away."


class TestJson:
    def test_every_key(self):
        found = to_json(BUSY, NOW)
        assert json.loads(json.dumps(found)) == found
        assert found == {
            "source": "s3://bucket/team/experiments/run-1",
            "target": "/mnt/run-1",
            "backend": "rclone",
            "state": "serving",
            "since": timestamp(NOW - 7980),
            "age_seconds": 7980.0,
            "supervisor_pid": 10,
            "daemon_pid": 11,
            "remounts": 2,
            "reason": "rclone ended: killed by SIGKILL",
            "pending_files": 3,
            "pending_bytes": 1_200_000,
            "unproven_files": 8,
            "unproven_bytes": 1_700_000_000,
            "verifications": {"proven": 14, "failed": 1},
            "last_proven": {
                "checkpoint": "out/checkpoint-300",
                "step": 300,
                "at": timestamp(NOW - 725),
                "age_seconds": 725.0,
            },
            "last_error": {
                "message": BUSY.last_error.message,
                "at": timestamp(NOW - 850),
                "age_seconds": 850.0,
                "settled": True,
            },
        }

    def test_nothing_yet(self):
        found = to_json(overview(pending=None, unproven=None), NOW)
        nothing = ("last_proven", "last_error", "pending_files", "unproven_bytes")
        assert {found[key] for key in nothing} == {None}

    def test_every_key_is_in_the_help(self):
        from mountkit.cli.status import command

        documented = command.help
        for key, value in to_json(BUSY, NOW).items():
            assert key in documented
            for inner in value if isinstance(value, dict) else ():
                assert inner in documented


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, state_dir: Path, *words: str, **env: str) -> None:
        self.master, slave = pty.openpty()
        size = struct.pack("HHHH", 24, 80, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        environment = {
            "PYTHONPATH": str(Path(mountkit.__file__).parents[1]),
            "HOME": os.environ["HOME"],
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "MOUNTKIT_STATE_DIR": str(state_dir),
            **env,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *words],
            env=environment,
            cwd=state_dir.parent,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str) -> None:
        """Read until it shows ``text``; forget what came before that."""
        deadline = time.monotonic() + LIMIT
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.master], [], [], left)[0]
            assert ready, f"not shown: {text!r} in {self.seen[-1000:]!r}"
            self.seen += self._read()
        self.seen = self.seen.partition(text)[2]

    def _read(self) -> str:
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:
            # The other end is closed.
            raise AssertionError(f"it ended: {self.seen!r}") from None

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> tuple[int, str]:
        """Its exit code, and all that it still showed."""
        code = self.process.wait(LIMIT)
        with contextlib.suppress(AssertionError):
            while True:
                self.seen += self._read()
        return code, self.seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def open_(*words: str, **env: str) -> Terminal:
        opened.append(Terminal(tmp_path / "s", *words, **env))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


@pytest.fixture
def known(tmp_path) -> State:
    return State(tmp_path / "s")


SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class TestWatch:
    def test_it_shows_what_changes_until_ctrl_c(self, known, terminal):
        window = terminal("status", "--watch")
        window.until("nothing is mounted")
        mine = record()
        directory = known.directory(mine.spec.id)
        directory.write(mine)
        window.until("repairing")
        directory.write(mine.change(REPAIRING, reason="it died"))
        window.until("s: it died")
        directory.proof_stats.failed("checkpoint-3 is not proven")
        window.until("checkpoint-3 is not proven")
        directory.proof_stats.proved(Proven("checkpoint-3", 3, now()))
        window.until("checkpoint-3, ")
        window.until("before the last proof")
        window.type("\x03")
        code, rest = window.end()
        assert code == 0
        assert SHOW_CURSOR in rest
        assert "Traceback" not in rest
        assert "interrupted" not in rest

    def test_only_the_one_that_was_asked_for(self, known, terminal):
        known.directory(record().spec.id).write(record())
        window = terminal("status", "/mnt/other", "--watch")
        window.until("nothing is mounted at /mnt/other")
        window.type("\x03")
        assert window.end()[0] == 0

    def test_sigterm_gives_the_cursor_back(self, terminal):
        window = terminal("status", "--watch")
        window.until(HIDE_CURSOR)
        window.until("nothing is mounted")
        window.process.send_signal(signal.SIGTERM)
        code, rest = window.end()
        assert code == 128 + signal.SIGTERM
        assert SHOW_CURSOR in rest

    def test_no_line_is_longer_than_the_terminal(self, known, terminal):
        known.directory(record().spec.id).write(record(remounts=1, reason="because " * 30))
        window = terminal("status", NO_COLOR="1")
        code, shown = window.end()
        assert code == 0
        lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\r\n")
        assert max(map(len, lines)) <= 80
        assert lines[0] == "/mnt/run-1"

    @pytest.mark.parametrize("words", [["--format", "json"], []], ids=["json", "dumb"])
    def test_without_a_terminal_to_draw_on_it_says_so(self, terminal, words):
        window = terminal("status", "--watch", *words, TERM="xterm" if words else "dumb")
        code, shown = window.end()
        assert code == 2
        assert "--watch draws on a terminal" in shown
        assert "mountkit status --format json" in shown

    def test_nor_into_a_pipe(self, tmp_path):
        environment = {
            "PYTHONPATH": str(Path(mountkit.__file__).parents[1]),
            "HOME": os.environ["HOME"],
            "MOUNTKIT_STATE_DIR": str(tmp_path / "s"),
        }
        words = [sys.executable, "-m", "mountkit", "status", "--watch"]
        answer = subprocess.run(
            words,
            check=False,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert answer.returncode == 2
        assert answer.stdout == ""
        assert "--watch draws on a terminal" in answer.stderr
