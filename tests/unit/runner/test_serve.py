"""A supervisor left behind: its error comes home, its silence too, and it outlives its parent."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import mountkit

# A process of its own does the forking: the one that runs the tests has threads.
PARENT = """
import atexit, json, os, sys, time
from mountkit import errors
from mountkit.runner.serve import leave_behind
from pathlib import Path

held = os.dup(0)  # open until the test lets go; the child's own stdin is /dev/null

def until_let_go():
    while os.read(held, 1):
        pass

{work}

atexit.register(print, "the parent cleaned up")
before = len(os.listdir("/proc/self/fd"))
try:
    leave_behind(work, Path(sys.argv[1]), {timeout}{report})
except errors.MountkitError as error:
    found = {{"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
else:
    found = {{"kind": None}}
found["leaked"] = len(os.listdir("/proc/self/fd")) - before
found["session"] = os.getsid(0)
print(json.dumps(found), flush=True)
"""


class Story:
    """What the parent said, and what the child wrote to its log."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "supervisor.log"
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, work: str, timeout: float = 10, report: str = "") -> dict:
        code = PARENT.format(work=work, timeout=timeout, report=f", {report}" if report else "")
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(self.log)],
            env={"PYTHONPATH": str(Path(mountkit.__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        said = json.loads(self._process.stdout.readline())
        assert self._process.stdout.read() == b"the parent cleaned up\n"
        assert self._process.wait(30) == 0
        return said

    def let_go(self) -> None:
        self._process.stdin.close()


@pytest.fixture
def story(tmp_path):
    started = Story(tmp_path)
    yield started
    started.let_go()


def until_ended(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with open(descriptor) as watched:  # noqa: PTH123 - a descriptor
        import select

        assert select.select([watched], [], [], 30)[0]


READY = """
def work(tell):
    print("pid", os.getpid(), os.getsid(0), os.getcwd(), os.readlink("/proc/self/fd/0"), flush=True)
    tell()
    tell()
    until_let_go()
    print("the end", flush=True)
"""


def test_it_returns_once_the_child_is_ready_and_the_child_stays(story):
    said = story.begin(READY)
    assert said["kind"] is None
    assert said["leaked"] == 0
    _, pid, session, folder, stdin = story.log.read_text().split()
    assert int(session) != said["session"]
    assert int(session) != int(pid), "it can never get a terminal again"
    assert (folder, stdin) == ("/", "/dev/null")
    assert stat.S_IMODE(story.log.stat().st_mode) == 0o600
    os.kill(int(pid), 0)
    story.let_go()
    until_ended(int(pid))
    assert story.log.read_text().endswith("the end\n")


def test_what_the_child_prints_is_added_to_its_log(story):
    story.log.write_text("from an earlier one\n")
    story.begin("def work(tell):\n    print('hello', flush=True)\n    tell()")
    assert story.log.read_text() == "from an earlier one\nhello\n"


def test_a_file_that_a_variable_names_is_the_same_in_the_child(story):
    story.begin(
        "os.environ['AWS_CONFIG_FILE'] = 'mine'\n"
        "def work(tell):\n    print(os.environ['AWS_CONFIG_FILE'], flush=True)\n    tell()"
    )
    assert story.log.read_text() == f"{Path.cwd()}/mine\n"


@pytest.mark.parametrize(
    "kind", ["ConfigurationError", "PermissionDeniedError", "MountUnavailableError", "UsageError"]
)
def test_the_childs_error_is_raised_with_its_class_and_hint(story, kind):
    said = story.begin(f"def work(tell):\n    raise errors.{kind}('No ü bucket.', hint='Make it.')")
    assert (said["kind"], said["message"], said["hint"]) == (kind, "No ü bucket.", "Make it.")
    assert said["leaked"] == 0
    assert "No ü bucket." in story.log.read_text()


def test_the_childs_error_is_written_as_the_caller_wants(story):
    story.begin(
        "def work(tell):\n    raise errors.UsageError('No.', hint='Yes.')\n"
        "def report(error):\n    print('**', error.hint, '**', file=sys.stderr, flush=True)",
        report="report",
    )
    assert story.log.read_text() == "** Yes. **\n"


@pytest.mark.parametrize(
    "ending", ["os._exit(3)", "os.kill(os.getpid(), 9)", "return", "sys.exit(1)"]
)
def test_a_child_that_ends_without_a_word(story, ending):
    said = story.begin(f"def work(tell):\n    {ending}")
    assert said["kind"] == "MountUnavailableError"
    assert "ended before" in said["message"]
    assert f"less {story.log}" in said["hint"]


def test_a_bug_in_the_child_is_in_its_log(story):
    said = story.begin("def work(tell):\n    raise KeyError('surprise')")
    assert said["kind"] == "MountUnavailableError"
    assert "KeyError: 'surprise'" in story.log.read_text()
    assert "the parent cleaned up" not in story.log.read_text()


def test_an_error_after_it_was_ready_is_in_its_log(story):
    work = "def work(tell):\n    tell()\n    raise errors.UsageError('Too late.', hint='Read on.')"
    assert story.begin(work)["kind"] is None


def test_a_log_that_cannot_be_written(story):
    story.log.mkdir()
    assert "ended before" in story.begin("def work(tell):\n    tell()")["message"]


def test_waiting_for_it_has_an_end(story):
    # The slack of ten minutes is added to what is given.
    said = story.begin("def work(tell):\n    until_let_go()", timeout=-599.9)
    assert said["kind"] == "MountUnavailableError"
    assert "did not get ready" in said["message"]
