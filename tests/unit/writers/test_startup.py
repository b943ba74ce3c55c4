"""What the start of a Python below ``mountkit run`` costs, and which Pythons it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mountkit
from mountkit.config.trainer_terms import VARIABLE, TrainerTerms
from mountkit.writers.startup_hook import FOLDER

PACKAGE = Path(mountkit.__file__).parents[1]
# A package of that name; what a Trainer would do with the hook is tested with the real one.
TRAINER = (
    "class Trainer:\n    def train(self, resume_from_checkpoint=None):\n        print('trained')\n"
)


@pytest.fixture
def transformers(tmp_path):
    top = tmp_path / "site" / "transformers"
    top.mkdir(parents=True)
    (top / "__init__.py").touch()
    (top / "trainer.py").write_text(TRAINER)
    return top.parent


def start(program: str, *paths: Path, resume: bool = True) -> subprocess.CompletedProcess[str]:
    terms = TrainerTerms("/mnt", resume=resume)
    return subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, *paths))),
            VARIABLE: terms.to_text(),
        },
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_python_that_does_not_train_imports_nothing_of_it():
    done = start("import sys, json; print(*(n for n in sys.modules if 'mountkit' in n))", PACKAGE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_one_of_another_environment_trains_as_ever_and_says_so(transformers):
    program = "from transformers.trainer import Trainer; Trainer().train()"
    done = start(program, transformers, resume=False)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    [line] = done.stderr.splitlines()
    assert "No module named 'mountkit'" in line
    assert "proven at the end" in line


@pytest.mark.parametrize("paths", [(), (PACKAGE,)])
def test_what_cannot_be_resumed_does_not_begin_anew(transformers, paths):
    """It would after each eviction, and save over what it had."""
    program = "from transformers.trainer import Trainer; Trainer().train()"
    done = start(program, transformers, *paths, resume=True)
    assert (done.returncode, done.stdout) == (78, "")
    [line] = done.stderr.splitlines()
    assert "cannot be resumed, as --resume asks for" in line


def test_so_does_a_trainer_that_has_not_the_methods(transformers):
    """One whose transformers has not what mountkit stands around."""
    program = "from transformers.trainer import Trainer; Trainer().train()"
    done = start(program, transformers, PACKAGE, resume=False)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    [line] = done.stderr.splitlines()
    assert "left alone" in line
    assert "proven at the end" in line


def test_the_sitecustomize_that_was_there_is_run_as_well(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('mine')\n")
    done = start("print('program')", tmp_path)
    assert (done.stdout, done.stderr) == ("mine\nprogram\n", "")
