"""Copies of the logs beside the training: none is waited for but the last."""

from __future__ import annotations

import threading

import pytest

from mountkit.training.log_mirror import LogMirror

LIMIT = 10.0


class Copies:
    """What is copied waits for the test, and fails as the test says."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.problems: list[str] = []
        self.count = 0
        self.told: list[list[str]] = []

    def copy(self) -> list[str]:
        self.count += 1
        self.begun.release()
        assert self.go.acquire(timeout=LIMIT)
        return self.problems

    def tell(self, problems) -> None:
        self.told.append([*problems])


@pytest.fixture
def copies():
    made = Copies()
    yield made
    for _ in range(10):
        made.go.release()


@pytest.fixture
def mirror(copies):
    return LogMirror(copies.copy, copies.tell)


def test_a_save_waits_for_no_copy_and_many_ask_for_one(copies, mirror):
    mirror.ask()
    assert copies.begun.acquire(timeout=LIMIT)
    assert mirror.busy
    for _ in range(5):
        mirror.ask()
    copies.go.release()
    copies.go.release()
    assert mirror.finish(0.0) is False
    copies.go.release()
    assert mirror.finish(LIMIT)
    assert copies.count <= 4


def test_the_end_waits_for_a_copy_of_what_was_written_last(copies, mirror):
    mirror.ask()
    assert copies.begun.acquire(timeout=LIMIT)
    # The first was under way before the last line; a second has to follow it.
    ended = []
    end = threading.Thread(target=lambda: ended.append(mirror.finish(LIMIT)))
    end.start()
    copies.go.release()
    assert copies.begun.acquire(timeout=LIMIT)
    assert ended == []
    copies.go.release()
    end.join(LIMIT)
    assert ended == [True]
    assert copies.count == 2


def test_what_does_not_end_is_not_waited_for_longer(copies, mirror):
    assert mirror.finish(0.05) is False
    assert mirror.busy


def test_what_could_not_be_copied_is_told_and_the_next_one_may_be_well(copies, mirror):
    copies.problems = ["full"]
    copies.go.release()
    assert mirror.finish(LIMIT) is False
    copies.problems = []
    copies.go.release()
    assert mirror.finish(LIMIT)
    assert copies.told[0] == ["full"]


def test_a_copy_that_breaks_off_is_told_and_the_next_one_is_made(copies, mirror):
    begun, go = threading.Event(), threading.Event()
    outcomes = [lambda: 1 / 0, list, list]

    def copy():
        begun.set()
        assert go.wait(LIMIT)
        return outcomes.pop(0)()

    broken = LogMirror(copy, copies.tell)
    broken.ask()
    assert begun.wait(LIMIT)
    # Asked for while the first is under way.
    broken.ask()
    go.set()
    assert broken.finish(LIMIT)
    ((said,), *_) = copies.told
    assert "ZeroDivisionError" in said
