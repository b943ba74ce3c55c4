"""Which callbacks a Trainer has below ``mountkit run``, and when the attached one steps aside."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mountkit.config.trainer_terms import TrainerTerms
from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    PermissionDeniedError,
)
from mountkit.training.trainer_hooks import beneath, hook

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transformers", reason="transformers is not installed")

STATE = SimpleNamespace(is_world_process_zero=True)


class Handler:
    def __init__(self, *callbacks: Any) -> None:
        self.callbacks = list(callbacks)


@pytest.fixture
def attach(monkeypatch):
    from mountkit.training import attach

    monkeypatch.setattr(attach, "covers", lambda mount, path: path.startswith(mount))
    return attach


class TestCallbacks:
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.mount = str(tmp_path / "mnt")
        self.inside = f"{self.mount}/out"
        self.outside = str(tmp_path / "elsewhere")

    def begin(self, attach, handler: Handler, output_dir: str = "", given=None):
        given = given or attach._Given(TrainerTerms(self.mount, on_failure="warn"), set())
        args = SimpleNamespace(output_dir=output_dir or self.inside)
        seen: list[list[Any]] = []
        given.on_train_begin(
            handler, lambda *_, **__: seen.append([*handler.callbacks]), (args, STATE, None), {}
        )
        # They are there before the event is.
        assert seen == [handler.callbacks]
        return given

    def test_one_of_each_is_added_last_and_once(self, attach):
        handler = Handler("flow")
        given = self.begin(attach, handler)
        self.begin(attach, handler, given=given)
        first, ours, logs = handler.callbacks
        assert first == "flow"
        assert isinstance(ours, attach.Attached)
        assert ours._on_failure == "warn"
        assert isinstance(logs, attach.RunLogCallback)
        # It was made ready before the event, for TensorBoard comes before it.
        assert ours.events_are_mirrored
        # Another Trainer of the process has its own.
        other = Handler()
        self.begin(attach, other, given=given)
        assert not {*map(id, other.callbacks)} & {*map(id, handler.callbacks)}

    @pytest.mark.parametrize("reached", [True, False])
    def test_a_train_of_its_own_is_not_resumed_and_that_is_said(self, attach, capsys, reached):
        begun = {self.inside} if reached else set()
        given = attach._Given(TrainerTerms(self.mount, resume=True), begun)
        self.begin(attach, Handler(), given=given)
        assert ("has a train() of its own" in capsys.readouterr().err) is not reached

    def test_the_scripts_own_is_the_only_one(self, attach):
        own = [attach.CheckpointCallback(), attach.RunLogCallback()]
        handler = Handler(*own)
        given = self.begin(attach, handler)
        assert handler.callbacks == own
        # Also where it is added after a first training.
        handler = Handler()
        self.begin(attach, handler, given=given)
        handler.callbacks.extend(own)
        self.begin(attach, handler, given=given)
        assert handler.callbacks == own

    def test_one_of_a_class_of_the_scripts_own_is_one_too(self, attach):
        class Mine(attach.CheckpointCallback):
            pass

        own = Mine()
        handler = Handler(own)
        self.begin(attach, handler)
        assert handler.callbacks[0] is own
        assert [type(each) for each in handler.callbacks[1:]] == [attach.RunLogCallback]

    def test_a_trainer_that_saves_elsewhere_has_none(self, attach, capsys):
        handler = Handler("flow")
        given = self.begin(attach, handler, self.outside)
        assert handler.callbacks == ["flow"]
        said = f"{self.outside} does not lie in the mount at {self.mount}"
        assert said in capsys.readouterr().err
        self.begin(attach, handler, given=given)
        self.begin(attach, handler, self.outside, given=given)
        assert handler.callbacks == ["flow"]

    def test_a_callback_that_cannot_be_made_is_no_reason_to_fail(self, attach, monkeypatch, capsys):
        monkeypatch.setenv("MOUNTKIT_STALL_TIMEOUT", "soon")
        handler = Handler("flow")
        self.begin(attach, handler)
        assert handler.callbacks == ["flow"]
        assert "proven at the end: stall_timeout cannot be 'soon'" in capsys.readouterr().err


class TestSteppingAside:
    def begin(self, attach, monkeypatch, error: Exception, on_failure: str = "raise"):
        def fail(self, args, state, control, **_):
            self._prover = object()
            self.limit.take(args)
            raise error

        monkeypatch.setattr(attach.CheckpointCallback, "on_train_begin", fail)
        callback = attach.Attached("/mnt", on_failure)
        args = SimpleNamespace(output_dir="/mnt/out", save_total_limit=3)
        try:
            callback.on_train_begin(args, STATE, None)
        finally:
            control = SimpleNamespace(should_save=True, should_evaluate=True)
            args.save_strategy = "best"
        return callback, args, control

    @pytest.mark.parametrize(
        "error",
        [
            ConfigurationError("2 processes train together.", hint="Train with one."),
            MountUnavailableError("It is away."),
            OSError(28, "No space left on device"),
        ],
    )
    def test_what_the_end_can_serve_goes_on(self, attach, monkeypatch, capsys, error):
        callback, args, control = self.begin(attach, monkeypatch, error)
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("mountkit: the checkpoints of /mnt/out are proven at the end: ")
        # Trainer's limit is its own again, and no event does anything.
        assert args.save_total_limit == 3
        assert callback.saves is None
        state = SimpleNamespace(global_step=2, best_model_checkpoint=None)
        callback.on_step_end(args, state, control)
        callback.on_save(args, state, control)
        callback.on_train_end(args, state, control)

    def test_a_store_that_refuses_ends_the_training(self, attach, monkeypatch):
        with pytest.raises(PermissionDeniedError):
            self.begin(attach, monkeypatch, PermissionDeniedError("No."))

    def test_unless_that_is_only_to_be_told(self, attach, monkeypatch, capsys):
        self.begin(attach, monkeypatch, PermissionDeniedError("No."), "warn")
        assert "proven at the end: No." in capsys.readouterr().err


class TestBeneath:
    def test_it_is_further_in_than_every_hook_and_has_the_classs_own_arguments(self):
        seen: list[str] = []

        class Base:
            def train(self, resume=None):
                seen.append(f"train {resume}")
                return "done"

        def around(it, method, arguments, options):
            seen.append("beneath")
            return method("newest", *arguments, **options)

        beneath(Base, "train", around)

        class Below(Base):
            def train(self):
                return super().train()

        hook(Base, "train", lambda it, call: seen.append("hook") or call())
        assert Below().train() == "done"
        assert seen == ["hook", "beneath", "train newest"]

    def test_a_class_without_the_method_is_named(self):
        class Base:
            pass

        with pytest.raises(ConfigurationError, match="Base has no train"):
            beneath(Base, "train", lambda *_: None)
