"""What the ranks of a training agree on: an error, a signal, a checkpoint, a save."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from mountkit.config.timeouts import Limits
from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    NotDurableError,
    PermissionDeniedError,
    Unproven,
    VerificationError,
    WrongNodeError,
)
from mountkit.events import silent
from mountkit.store.base import ObjectMissingError, UnsupportedConditionError
from mountkit.training import run_check
from mountkit.training.pending_proof import PendingProof
from mountkit.training.rank_group import Told
from mountkit.training.ranks import Ranks
from mountkit.training.save_retry import SaveRetrier
from mountkit.training.shared_signal import SharedSignal
from mountkit.training.trainer_hooks import Call
from support.fakes import FakeMount
from support.rank_threads import on_each

LIMITS = Limits(stall=0.2, drain=10.0, repair=0.05)


@pytest.mark.fault(27)
class TestErrors:
    def test_that_of_one_is_raised_on_all_and_keeps_its_code(self):
        def work(ranks, rank):
            def fail():
                if rank == 1:
                    raise PermissionDeniedError("no", hint="ask")

            return ranks.together(fail)

        found = on_each(3, work)
        assert [type(each) for each in found] == [PermissionDeniedError] * 3
        assert found[1].message == "no"
        assert found[0].message == "Rank 1 failed, and so all ranks end: no"
        assert found[2].hint == "ask"

    @pytest.mark.fault(28)
    def test_that_of_a_wrong_node_is_one_on_all(self, monkeypatch):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

        def work(ranks, rank):
            args = SimpleNamespace(process_index=rank, world_size=2)
            mount = SimpleNamespace(spec=SimpleNamespace(node=1))
            return ranks.together(lambda: run_check.refuse_node(args, mount))

        assert [type(each) for each in on_each(2, work)] == [WrongNodeError] * 2

    def test_a_kind_of_a_stores_own_ends_all_with_the_same_code(self):
        for kind, public in (
            (ObjectMissingError, VerificationError),
            (UnsupportedConditionError, ConfigurationError),
        ):
            told = Told.by(0, kind("no", hint="ask")).error()
            assert type(told) is public
            assert told.exit_code == kind.exit_code

    def test_what_is_none_of_mountkits_is_told_with_its_name(self):
        told = Told.by(2, OSError(28, "No space left")).error()
        assert isinstance(told, NotDurableError)
        assert "Rank 2" in told.message
        assert "No space left" in told.message

    def test_the_files_that_are_not_proven_are_told_too(self):
        files = (Unproven("a", 1, "missing"),)
        assert Told.by(0, NotDurableError("x", unproven=files)).error().unproven == files

    def test_a_kind_that_is_no_error_of_mountkits_is_never_made(self):
        assert type(Told(0, "dataclass", "x", "").error()) is NotDurableError
        assert type(Told(0, "MountUnavailableError", "x", "").error()) is MountUnavailableError

    def test_all_go_on_where_nobody_failed(self):
        assert on_each(2, lambda ranks, rank: ranks.together(lambda: rank)) == [0, 1]

    def test_ranks_that_begin_at_different_steps_are_refused_on_all(self):
        found = on_each(2, lambda ranks, rank: ranks.agree_on_step(rank * 2))
        assert all(isinstance(each, ConfigurationError) for each in found)
        assert "rank 0 at 0, rank 1 at 2" in found[0].message

    def test_one_alone_agrees_with_itself(self):
        ranks = Ranks()
        assert ranks.together(lambda: 5) == 5
        assert ranks.gather("a") == ["a"]
        assert (ranks.alone, ranks.first) == (True, True)
        with pytest.raises(OSError, match="full"):
            ranks.settle(OSError("full"))


class TestProofs:
    def test_nobody_waits_on_when_one_has_failed(self):
        release = threading.Event()

        def work(ranks, rank):
            proof = PendingProof()

            def prove():
                if rank == 0:
                    raise NotDurableError("torn")
                assert release.wait(20)

            proof.begin("checkpoint-2", prove)
            ranks.await_proofs(proof, give_up=True)
            said = (proof.under_way, proof.failed)
            ranks.gather(said)
            release.set()
            return said

        assert on_each(2, work) == [(False, True), (True, False)]


@pytest.mark.fault(24)
class TestResume:
    def found(self, tmp_path, *asked):
        def work(ranks, rank):
            call = Call(lambda *_, **__: None, (), {"resume_from_checkpoint": asked[rank]})
            trainer = SimpleNamespace(
                callback_handler=SimpleNamespace(callbacks=[]),
                args=SimpleNamespace(output_dir=str(tmp_path / f"node-{rank}")),
            )
            ranks.enter(trainer, call)
            return call.argument(0, "resume_from_checkpoint")

        return on_each(len(asked), work)

    def test_that_of_rank_0_counts_below_each_ones_own_output_dir(self, tmp_path):
        names = [str(tmp_path / f"node-{rank}" / f"checkpoint-{6 - rank}") for rank in (0, 1)]
        assert self.found(tmp_path, *names) == [
            str(tmp_path / "node-0/checkpoint-6"),
            str(tmp_path / "node-1/checkpoint-6"),
        ]

    def test_a_start_from_nothing_is_everybodys(self, tmp_path):
        assert self.found(tmp_path, None, str(tmp_path / "node-1/checkpoint-2")) == [None, None]

    def test_what_is_elsewhere_is_taken_as_it_is(self, tmp_path):
        assert self.found(tmp_path, "/models/best", None) == ["/models/best", "/models/best"]

    def test_where_all_were_told_the_same_nothing_changes(self, tmp_path):
        assert self.found(tmp_path, True, True) == [True, True]


def test_an_argument_is_given_where_it_was(tmp_path):
    calls = []
    call = Call(lambda *given, **named: calls.append((given, named)), ("a", "trial"), {})
    call.give(0, "resume_from_checkpoint", "b")
    call()
    call = Call(lambda *given, **named: calls.append((given, named)), (), {"trial": 1})
    assert call.argument(0, "resume_from_checkpoint") is None
    call.give(0, "resume_from_checkpoint", "b")
    call()
    assert calls == [(("b", "trial"), {}), ((), {"trial": 1, "resume_from_checkpoint": "b"})]


@pytest.mark.fault(25)
class TestSignal:
    class Manager:
        def __init__(self) -> None:
            self.is_checkpoint_requested = False
            self.saved = []
            self.trainer = SimpleNamespace(
                model="m", _save_checkpoint=lambda model, trial: self.saved.append(model)
            )

        def _enable_checkpoint(self) -> None:
            self.is_checkpoint_requested = True

        def execute_jit_checkpoint(self) -> None:
            self.saved.append("with its mark")

    def test_of_one_rank_is_asked_of_all_and_once(self):
        def work(ranks, rank):
            manager = self.Manager()
            ranks._signal = signal = SharedSignal([manager], first=rank == 0)
            if rank == 1:
                manager._enable_checkpoint()
            before = manager.is_checkpoint_requested
            ranks.settle(None)
            after = manager.is_checkpoint_requested
            manager._enable_checkpoint()
            manager.execute_jit_checkpoint()
            return before, after, signal.pending, manager.saved

        assert on_each(2, work) == [
            (False, True, False, ["with its mark"]),
            (False, True, False, ["m"]),
        ]

    def test_afterwards_it_is_as_it_was(self):
        manager = self.Manager()
        signal = SharedSignal([manager], first=False)
        signal.give_back()
        manager._enable_checkpoint()
        assert manager.is_checkpoint_requested


class Recorder:
    """A prover that notes what it is told to do."""

    def __init__(self, mount: FakeMount) -> None:
        self.store = mount.store()
        self.done: list[str] = []

    def begin(self, name: str) -> None:
        self.done.append("begin")

    def remove(self, name: str) -> bool:
        self.done.append("remove")
        return True


@pytest.mark.fault(7, 27)
class TestSaves:
    @pytest.fixture
    def mount(self, tmp_path) -> FakeMount:
        mount = FakeMount(tmp_path)
        mount.source = "s3://bucket/run"
        mount.wait_until_serving = lambda _: None
        mount.begin()
        return mount

    def saved(self, mount, works, *, lockstep=False):
        """Each rank saves by its own work; the tries of each, and what its prover was told."""

        def work(ranks, rank):
            ranks._layout = SimpleNamespace(
                first=rank == 0, here=(0, 1), nodes=((0, 1),), rank=rank, leads=rank == 0
            )
            ranks._name = "ab"
            prover, tries = Recorder(mount), []
            retrier = SaveRetrier(mount, prover, LIMITS, silent, 0.0, ranks=ranks)

            def save():
                tries.append(retrier.made)
                return works[rank](len(tries))

            retrier.save("checkpoint-4", save, lockstep=lockstep)
            return tries, prover.done

        return on_each(2, work)

    def test_one_that_was_torn_on_one_rank_is_made_again_by_all(self, mount):
        def lose(number):
            if number == 1:
                mount.begin(lost=(1.0,))

        first, second = self.saved(mount, [lambda _: None, lose])
        assert first == (["ab-1", "ab-2"], ["begin", "remove", "begin"])
        # The first rank of the node alone clears what is there.
        assert second == (["ab-1", "ab-2"], [])

    def test_one_that_is_torn_each_time_ends_all(self, mount):
        lost = []

        def lose(number):
            lost.append(float(len(lost) + 1))
            mount.begin(lost=tuple(lost))

        found = self.saved(mount, [lambda _: None, lose])
        assert all(isinstance(each, NotDurableError) for each in found)

    def test_an_error_that_is_none_of_the_mounts_ends_all_at_once(self, mount):
        def fail(_):
            raise ValueError("no such key")

        first, second = self.saved(mount, [lambda _: None, fail])
        assert "no such key" in str(first)
        assert isinstance(second, ValueError)

    def test_whose_ranks_wait_for_each_other_is_not_made_again(self, mount):
        tries = []

        def fail(number):
            tries.append(number)
            mount.begin(lost=(1.0,))
            raise OSError(5, "Input/output error")

        first, second = self.saved(mount, [fail, lambda _: None], lockstep=True)
        assert isinstance(first, OSError)
        # It hears that the other is gone.
        assert isinstance(second, NotDurableError)
        assert tries == [1]
