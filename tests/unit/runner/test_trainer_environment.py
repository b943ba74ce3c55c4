"""What a command's environment has for the Trainers below it."""

from __future__ import annotations

import os

import pytest

from mountkit.config.settings import load
from mountkit.config.trainer_terms import VARIABLE, TrainerTerms
from mountkit.errors import UsageError
from mountkit.runner.trainer_environment import check, with_trainer
from mountkit.writers.startup_hook import FOLDER


def terms(env) -> TrainerTerms:
    return TrainerTerms.from_text(env[VARIABLE])


def test_by_default_it_attaches_and_does_not_resume():
    env = with_trainer(load(), "/mnt", {"PYTHONPATH": "/mine", "A": "b"})
    assert terms(env) == TrainerTerms("/mnt")
    assert env["PYTHONPATH"] == os.pathsep.join([str(FOLDER), "/mine"])
    assert env["A"] == "b"
    # A run within a run: its own are asked, and the folder is there once.
    inner = with_trainer(load(resume=True), "/other", env)
    assert terms(inner) == TrainerTerms("/other", resume=True)
    assert inner["PYTHONPATH"] == env["PYTHONPATH"]


@pytest.mark.parametrize("path", ["/mnt", ""])
def test_resume_alone(path):
    env = with_trainer(load(attach=False, resume=True), path, {})
    assert terms(env) == TrainerTerms(path, attach=False, resume=True)
    assert env["PYTHONPATH"] == str(FOLDER)


@pytest.mark.parametrize(("path", "attach"), [("/mnt", False), ("", True)])
def test_where_nothing_is_asked_nothing_is_handed_on(path, attach):
    outer = {VARIABLE: TrainerTerms("/outer").to_text(), "PYTHONPATH": "/mine"}
    assert with_trainer(load(attach=attach), path, outer) == {"PYTHONPATH": "/mine"}


@pytest.mark.parametrize(("name", "value"), [("MOUNTKIT_ATTACH", "0"), ("MOUNTKIT_ATTACH", "no")])
def test_a_variable_turns_it_off(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert VARIABLE not in with_trainer(load(), "/mnt", {})


def test_the_terms_of_a_newer_mountkit_are_read_as_far_as_they_are_known():
    text = '{"path": "/mnt", "resume": true, "ranks": 3}'
    assert TrainerTerms.from_text(text) == TrainerTerms("/mnt", resume=True)


def test_a_load_path_is_absolute_from_the_start_and_has_to_be_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    settings = load(load_path="model")
    assert settings.load_path == str(tmp_path / "model")
    check(settings)
    check(load())
    check(load(load_path="s3://bucket/run-1"))
    for wrong in ("nowhere", "ftp://bucket"):
        with pytest.raises(UsageError) as caught:
            check(load(load_path=wrong))
        assert caught.value.hint
