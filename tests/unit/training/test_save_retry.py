"""A save that is made once more, and one that is not."""

from __future__ import annotations

import contextlib
import errno
from types import SimpleNamespace

import pytest

from mountkit.config.timeouts import Limits
from mountkit.errors import MountUnavailableError, NotDurableError
from mountkit.events import Problem
from mountkit.state.record import REPAIRING, SERVING
from mountkit.training.save_hooks import watch_save
from mountkit.training.save_retry import REPEATS, SaveRetrier
from support.fakes import FakeMount

LIMITS = Limits(stall=0.05, drain=1.0, repair=1.0)
EIO = OSError(errno.EIO, "Input/output error")


class Place:
    """A mount, a prover that notes what it is asked, and a store that is there or not."""

    def __init__(self, folder) -> None:
        self.mount = FakeMount(folder)
        self.mount.begin()
        self.mount.wait_until_serving = lambda _: self.asked.append("wait")
        self.mount.source = "s3://bucket/run"
        self.asked: list[str] = []
        self.events: list = []
        self.store_errors: list[MountUnavailableError] = []
        # Whether the mount is being repaired when it is to be removed.
        self.refusals: list[bool] = []
        prover = SimpleNamespace(
            remove=self.remove,
            begin=lambda name: self.asked.append(f"begin {name}"),
            store=SimpleNamespace(check=self.check),
        )
        self.save_retrier = SaveRetrier(self.mount, prover, LIMITS, self.events.append, 0.01)

    def remove(self, name: str) -> bool:
        self.asked.append(f"remove {name}")
        return not (self.refusals and self.refusals.pop())

    def check(self, *, write: bool) -> None:
        assert not write
        if self.store_errors:
            raise self.store_errors.pop(0)

    def lose(self) -> None:
        """The supervisor sees that the mount is lost, and repairs it."""
        record = self.mount.record()
        self.mount.directory.write(record.change(SERVING, lost=(*record.lost, 1.0)))

    def save(self, *outcomes):
        """Save; each try ends as it is told: with an error, a loss, or well."""
        tries = iter(outcomes)

        def work():
            outcome = next(tries)
            if isinstance(outcome, tuple):
                self.lose()
                outcome = outcome[0]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return self.save_retrier.save("checkpoint-1", work)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


FIRST = ["begin checkpoint-1"]
AGAIN = ["wait", "remove checkpoint-1", "begin checkpoint-1"]


def test_one_that_goes_well_is_made_once(place):
    assert place.save("saved") == "saved"
    assert place.asked == FIRST


@pytest.mark.fault(7)
@pytest.mark.parametrize("error", [EIO, RuntimeError("PytorchStreamWriter failed")])
def test_one_that_fails_because_the_mount_was_lost_is_made_again_from_nothing(place, error):
    assert place.save((error,), "saved") == "saved"
    assert place.asked == FIRST + AGAIN
    assert "the mount was lost" in place.events[0].reason


@pytest.mark.fault(2, 7)
def test_one_that_was_torn_and_nobody_told(place):
    assert place.save(("saved, it says",), "saved") == "saved"
    assert place.asked == FIRST + AGAIN


def test_an_error_that_is_not_the_mounts_is_the_trainings(place):
    with pytest.raises(ValueError, match="a bug"):
        place.save(ValueError("a bug"))
    assert place.asked == FIRST


@pytest.mark.fault(18)
def test_one_that_the_store_refuses_is_not_made_again(place):
    with pytest.raises(OSError, match="AccessDenied"):
        place.save(OSError(errno.EIO, "model.safetensors could not be uploaded: AccessDenied"))
    assert place.asked == FIRST


@pytest.mark.fault(34)
def test_one_that_failed_while_the_store_was_away_waits_for_it(place):
    place.store_errors = [MountUnavailableError("The store could not be reached.")]
    assert place.save(OSError(errno.ENOENT, "gone"), "saved") == "saved"
    assert place.asked == FIRST + AGAIN
    assert place.events[0] == Problem("The store could not be reached.")


@pytest.mark.fault(34)
def test_a_store_that_stays_away_ends_it(place):
    place.store_errors = [MountUnavailableError("The store could not be reached.")] * 99
    with pytest.raises(MountUnavailableError):
        place.save(EIO)


@pytest.mark.fault(47)
def test_an_error_that_comes_again_while_the_mount_is_well_is_told_with_its_file_and_call(place):
    def work():
        error = OSError(errno.EIO, "Input/output error", "checkpoint-1", None, "latest")
        raise error  # a symlink

    with pytest.raises(OSError, match="is well") as caught:
        place.save_retrier.save("checkpoint-1", work)
    assert place.asked == FIRST + AGAIN
    assert caught.value.errno == errno.EIO
    assert "checkpoint-1 -> latest: Input/output error" in str(caught.value)
    assert "raise error  # a symlink" in str(caught.value)
    assert f"mountkit doctor s3://bucket/run {place.mount.path}" in str(caught.value)


@pytest.mark.fault(47)
def test_an_error_of_another_file_each_time_is_tried_as_often_as_ever(place):
    names = iter(("model", "optimizer", "scheduler", "none"))

    def work():
        raise OSError(errno.EIO, "Input/output error", next(names))

    with pytest.raises(OSError, match="scheduler"):
        place.save_retrier.save("checkpoint-1", work)
    assert place.asked == FIRST + AGAIN * REPEATS


@pytest.mark.fault(7, 47)
def test_a_mount_that_was_lost_in_between_is_a_reason_to_save_again(place):
    assert place.save(EIO, (EIO,), "saved") == "saved"
    assert place.asked == FIRST + AGAIN * 2


@pytest.mark.fault(47)
def test_a_mount_that_does_not_answer_is_not_called_well(place):
    place.mount.alive = False
    with pytest.raises(OSError, match="Input/output error") as caught:
        place.save(*[EIO] * REPEATS)
    assert "is well" not in str(caught.value)
    assert place.asked == FIRST + AGAIN * REPEATS


@pytest.mark.fault(47)
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_link_that_such_a_mount_does_not_make_is_named_at_once(place, number):
    with pytest.raises(OSError, match="make a hard link") as caught:
        place.save(OSError(number, "no", "model.bin", None, "best.bin"))
    assert caught.value.errno == number
    assert (caught.value.filename, caught.value.filename2) == ("model.bin", "best.bin")
    assert "Copy the file instead" in str(caught.value)
    assert place.asked == FIRST


@pytest.mark.fault(47)
def test_what_may_not_be_opened_is_nothing_about_links(place):
    with pytest.raises(PermissionError) as caught:
        place.save(PermissionError(errno.EPERM, "Operation not permitted", "model.bin"))
    assert "link" not in str(caught.value)
    assert place.asked == FIRST


def test_a_mount_that_is_lost_each_time_ends_it_with_the_name(place):
    with pytest.raises(NotDurableError) as caught:
        place.save(*[("saved",)] * REPEATS)
    assert "checkpoint-1" in caught.value.message
    assert caught.value.unproven[0].path == "checkpoint-1"


def test_an_error_while_the_mount_is_being_repaired_is_the_mounts(place):
    record = place.mount.record()
    place.mount.directory.write(record.change(REPAIRING))
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 1:
            raise FileNotFoundError("checkpoint-1")
        place.mount.directory.write(record.change(SERVING))
        return "saved"

    # The second save begins while it still says that it repairs, so a third one is the first whole.
    assert place.save_retrier.save("checkpoint-1", work) == "saved"


@pytest.mark.fault(7)
@pytest.mark.parametrize(("times", "gone"), [(0, True), (1, True), (REPEATS, False)])
def test_what_is_there_is_removed_when_the_mount_is_back(place, times, gone):
    place.refusals = [True] * times
    assert place.save_retrier.clear("checkpoint-1") is gone
    assert place.asked == ["wait", "remove checkpoint-1"] * min(times + 1, REPEATS)


class Callback:
    def __init__(self, retrier, ended: bool = False) -> None:
        self.saves = SimpleNamespace(
            retrier=retrier,
            ended=ended,
            begin=lambda step: step != 8,
            tells=False,
            close=lambda: None,
        )


class Recorder:
    def __init__(self) -> None:
        self.names = []

    def save(self, name, work, *, hidden, lockstep):
        self.names.append(name)
        return work()


class TestWatch:
    def trainer(self, *callbacks):
        class Trainer:
            def __init__(self) -> None:
                self.callback_handler = SimpleNamespace(callbacks=list(callbacks))
                self.state = SimpleNamespace(global_step=7)

            def _save_checkpoint(self, model, trial=None):
                return model, trial

        watch_save(Trainer, Callback)
        watch_save(Trainer, Callback)
        return Trainer()

    def test_a_trainer_with_the_callback_saves_through_its_resaver(self):
        recorder = Recorder()
        assert self.trainer(Callback(recorder))._save_checkpoint("m", trial="t") == ("m", "t")
        assert recorder.names == ["checkpoint-7"]

    def test_one_without_it_saves_as_ever(self):
        assert self.trainer()._save_checkpoint("m") == ("m", None)
        assert self.trainer(Callback(None, ended=True))._save_checkpoint("m") == ("m", None)
        outside = Callback(None)
        outside.saves = None
        assert self.trainer(outside)._save_checkpoint("m") == ("m", None)

    def test_what_is_proven_as_it_is_is_not_put_at_risk(self):
        recorder = Recorder()
        trainer = self.trainer(Callback(recorder))
        trainer.state.global_step = 8
        assert trainer._save_checkpoint("m") is None
        assert recorder.names == []


class TestRepeats:
    """A save that is broken is made once more as a whole, whatever class it is of."""

    @pytest.fixture
    def calls(self) -> list[str]:
        return []

    @pytest.fixture
    def base(self, place, calls):
        class Trainer:
            def __init__(self) -> None:
                self.callback_handler = SimpleNamespace(callbacks=[Callback(place.save_retrier)])
                self.state = SimpleNamespace(global_step=1)

            def _save_checkpoint(self, model, trial=None):
                calls.append("trainer")
                if calls.count("trainer") == 1:
                    place.lose()
                    raise EIO

        return Trainer

    def save(self, trainer) -> None:
        watch_save(type(trainer).__mro__[-2], Callback)
        trainer._save_checkpoint("m")

    def test_one_that_writes_before(self, place, base, calls):
        class Own(base):
            def _save_checkpoint(self, model, trial=None):
                calls.append("card")
                super()._save_checkpoint(model, trial)

        self.save(Own())
        assert calls == ["card", "trainer"] * 2
        assert place.asked == FIRST + AGAIN

    def test_one_that_writes_after(self, place, base, calls):
        class Own(base):
            def _save_checkpoint(self, model, trial=None):
                super()._save_checkpoint(model, trial)
                calls.append("entropy")

        self.save(Own())
        assert calls == ["trainer", "trainer", "entropy"]
        assert place.asked == FIRST + AGAIN

    def test_one_that_fails_after_its_base_had_saved(self, place, base, calls):
        class Own(base):
            def _save_checkpoint(self, model, trial=None):
                calls.append("own")
                if len(calls) == 1:
                    place.lose()
                    raise FileNotFoundError("entropy")

        self.save(Own())
        assert calls == ["own", "own"]
        assert place.asked == FIRST + AGAIN

    def test_one_that_swallows_what_its_base_raises(self, place, base, calls):
        class Own(base):
            def _save_checkpoint(self, model, trial=None):
                with contextlib.suppress(OSError):
                    super()._save_checkpoint(model, trial)

        self.save(Own())
        assert calls == ["trainer", "trainer"]

    def test_one_that_swallows_it_before_anybody_has_seen_why(self, place, base, calls):
        class Torn(base):
            def _save_checkpoint(self, model, trial=None):
                calls.append("torn")
                if len(calls) == 1:
                    raise EIO

        class Own(Torn):
            def _save_checkpoint(self, model, trial=None):
                with contextlib.suppress(OSError):
                    super()._save_checkpoint(model, trial)

        self.save(Own())
        assert calls == ["torn", "torn"]
        assert "reported an error" in place.events[0].reason

    def test_one_that_makes_another_error_of_it(self, place, base, calls):
        class Own(base):
            def _save_checkpoint(self, model, trial=None):
                try:
                    super()._save_checkpoint(model, trial)
                except OSError as error:
                    raise RuntimeError("cannot save") from error

        self.save(Own())
        assert calls == ["trainer", "trainer"]

    def test_one_that_has_it_from_a_mixin(self, place, base, calls):
        class Card:
            def _save_checkpoint(self, model, trial=None):
                calls.append("card")
                super()._save_checkpoint(model, trial)

        class Own(Card, base):
            pass

        self.save(Own())
        assert calls == ["card", "trainer"] * 2
        assert place.asked == FIRST + AGAIN

    def test_one_that_was_assigned_to_a_single_trainer(self, place, base, calls):
        trainer = base()
        bound = trainer._save_checkpoint

        def own(model, trial=None):
            calls.append("own")
            bound(model, trial)

        trainer._save_checkpoint = own
        self.save(trainer)
        assert calls == ["own", "trainer"] * 2
        assert place.asked == FIRST + AGAIN
