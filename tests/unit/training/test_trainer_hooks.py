"""What stands around a method of Trainer is called once a call, whoever overrides the method."""

from __future__ import annotations

import inspect
from unittest import mock

import pytest

from mountkit.errors import ConfigurationError
from mountkit.training.trainer_hooks import hook


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def base(seen):
    class Trainer:
        def save(self, name: str, *, trial: str = "") -> str:
            seen.append("base")
            return f"{name}{trial}"

    return Trainer


@pytest.fixture
def attach(base, seen):
    """Hook them, as at the start of a training; more than once does no more."""

    def around(it, call):
        seen.append("around")
        return call()

    def attach() -> None:
        hook(base, "save", around)
        hook(base, "save", around)

    return attach


def test_once_around_a_plain_one(base, seen, attach):
    attach()
    assert base().save("m", trial="t") == "mt"
    assert seen == ["around", "base"]


@pytest.mark.parametrize("before", [True, False], ids=["defined-before", "defined-after"])
def test_once_around_the_outermost_of_three(base, seen, attach, before):
    if before:
        attach()

    class Second(base):
        def save(self, name, *, trial=""):
            seen.append("second")
            return super().save(name, trial=trial)

    class Third(Second):
        def save(self, name, *, trial=""):
            found = super().save(name, trial=trial)
            seen.append("third")
            return found

    attach()
    assert Third().save("m") == "m"
    assert seen == ["around", "second", "base", "third"]
    seen.clear()
    assert Second().save("m") == "m"
    assert seen == ["around", "second", "base"]


def test_one_that_never_calls_its_base(base, seen, attach):
    class Own(base):
        def save(self, name, *, trial=""):
            seen.append("own")
            return "own"

    attach()
    assert Own().save("m") == "own"
    assert seen == ["around", "own"]


@pytest.mark.parametrize("first", [True, False], ids=["mixin-first", "mixin-last"])
def test_a_mixin_stays_as_it_is(base, seen, attach, first):
    class Mixin:
        def save(self, name, *, trial=""):
            seen.append("mixin")
            return super().save(name, trial=trial)

    own = Mixin.save

    class Mixed(*((Mixin, base) if first else (base, Mixin))):
        pass

    attach()
    Mixed().save("m")
    assert seen == (["around", "mixin", "base"] if first else ["around", "base"])
    assert Mixin.save is own
    seen.clear()
    # By the class, as some do who replace it.
    Mixed.save(Mixed(), "m")
    assert seen == (["around", "mixin", "base"] if first else ["around", "base"])


def test_one_that_is_assigned_to_a_trainer_before_or_after(base, seen, attach):
    class Own(base):
        def save(self, name, *, trial=""):
            seen.append("own")
            return super().save(name, trial=trial)

    def assign(trainer) -> None:
        bound = trainer.save
        trainer.save = lambda name: (seen.append("assigned"), bound(name))[1]

    early, late, other = Own(), Own(), Own()
    assign(early)
    attach()
    assign(late)
    for trainer in (early, late):
        seen.clear()
        assert trainer.save("m") == "m"
        assert seen == ["around", "assigned", "own", "base"]
    seen.clear()
    del late.save
    for trainer in (late, other):
        trainer.save("m")
    assert seen == ["around", "own", "base"] * 2
    with pytest.raises(AttributeError):
        del other.save


def test_one_that_replaces_the_method_of_a_class_and_calls_the_old_one(base, seen, attach):
    attach()
    old = base.save

    def new(self, name, *, trial=""):
        seen.append("new")
        return old(self, name, trial=trial)

    base.save = new
    attach()
    assert base().save("m") == "m"
    assert seen == ["around", "new", "base"]


def test_a_mock_can_take_its_place(base, seen, attach):
    attach()
    trainer = base()
    with mock.patch.object(trainer, "save", return_value="mocked"):
        assert trainer.save("m") == "mocked"
    with mock.patch.object(base, "save", return_value="mocked"):
        attach()
        assert trainer.save("m") == "mocked"
    assert seen == ["around", "around"]
    assert trainer.save("m") == "m"


def test_it_looks_like_what_it_stands_around(base, attach):
    before = inspect.signature(base.save), inspect.signature(base().save)
    attach()
    assert (inspect.signature(base.save), inspect.signature(base().save)) == before


def test_an_error_ends_the_call_and_not_what_comes_after(base, seen, attach):
    class Own(base):
        def save(self, name, *, trial=""):
            raise OSError(name)

    attach()
    for _ in range(2):
        with pytest.raises(OSError, match="m"):
            Own().save("m")
    assert seen == ["around", "around"]


def test_a_trainer_without_the_method_is_told_with_the_versions_that_have_it(base):
    with pytest.raises(
        ConfigurationError, match=r"Trainer has no _rotate in transformers \S+"
    ) as e:
        hook(base, "_rotate", lambda _, call: call())
    assert "5.0 to 5.24" in (e.value.hint or "")
