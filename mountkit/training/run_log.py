"""The TrainerCallback that keeps the logs of a run in its bucket."""

from __future__ import annotations

import atexit
import functools
import json
import logging
import math
import os
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import CallbackHandler

from mountkit import backends
from mountkit.config import settings, timeouts
from mountkit.errors import MountkitError
from mountkit.formatting import timestamp
from mountkit.linux import paths
from mountkit.mounts.mount import Mount
from mountkit.names import RUN_LOGS
from mountkit.training import model_info, tensorboard_events
from mountkit.training.callback import CheckpointCallback
from mountkit.training.log_files import LogFiles
from mountkit.training.log_mirror import LogMirror
from mountkit.training.trainer_hooks import Call, hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

logger = logging.getLogger("mountkit")

LOG = "training.log"
METRICS = "metrics.jsonl"
MODEL = "model_info.txt"
# For a few megabytes; a store that is away is waited for by the proofs.
LAST_COPY_SECONDS = 30.0
# Those that pass nothing on to the root logger are listened to themselves.
LOGGERS = ("", "transformers", "mountkit")


class _Logs(NamedTuple):
    """The logs of one place: the local files, of which these two go on where a run left them."""

    files: LogFiles
    log: Path
    metrics: Path


#: Of this process, by place, mount and when that was made. Two Trainers that write to one place
#: write the same files: a copy of each one's own would replace what the other has written.
_OPEN: dict[tuple[str, str, float], _Logs] = {}


class RunLogCallback(TrainerCallback):  # type: ignore[misc] # transformers ships no types
    """Keep the logs of a run below ``output_dir``, in ``logs/``, on every kind of mount.

    ``training.log`` has what happened and what Python's loggers said, ``metrics.jsonl`` an object a
    line of what Trainer logged, ``model_info.txt`` the model and the arguments of the last start,
    and ``tensorboard/`` the events, if Trainer reports to TensorBoard.

    Notes
    -----
    They are written on the local disk and copied into the mount after each save, at the end of each
    epoch, and when the training ends, also with an error. Only the last copy is waited for. Where
    no mount covers ``output_dir`` they are written there at once. A run that is resumed goes on in
    the same files.

    TensorBoard's events go to the local disk, too, and are copied to ``logs/tensorboard``, or to
    ``TENSORBOARD_LOGGING_DIR`` where that lies in the mount.

    A copy that fails is a warning, and is made the next time; it never ends the training. Of
    several processes only that of rank 0 writes.
    """

    def __init__(self) -> None:
        self._files: LogFiles | None = None
        self._mirror: LogMirror | None = None
        self._log: Path | None = None
        self._metrics: Path | None = None
        self._boards: list[Any] = []
        self._handler = _Handler(self._write)
        self._training = False
        self._warned = ""
        watch(Trainer, CallbackHandler, RunLogCallback)

    def prepare(self, callbacks: Iterable[Any], args: Any, state: Any) -> None:
        """Get ready to write, and have TensorBoard write to the local disk, before it begins."""
        redirected = True
        if state.is_world_process_zero:
            redirected = self._guard(self._open, args) is not None
            self._boards = [one for one in callbacks if isinstance(one, TensorBoardCallback)]
            for one in self._boards if redirected else []:
                redirect = functools.partial(tensorboard_events.redirect, one, state)
                redirected = self._guard(redirect, self._files) is True and redirected
        for one in callbacks:
            if isinstance(one, CheckpointCallback):
                one.events_are_mirrored = redirected

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Write what is trained, and with what."""
        if self._begun(args, state) and self._files is not None:
            self._training = True
            self._handler.attach()
            self._note(f"training begins at step {state.global_step} of {state.max_steps}")
            place = self._files.local / MODEL
            self._guard(lambda: place.write_text(model_info.describe(model, args)))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Write what was logged. After a training nothing else copies it."""
        if self._begun(args, state):
            values = {name: _plain(value) for name, value in (logs or {}).items()}
            self._guard(self._append_metrics, state, values)
            self._note(f"step {state.global_step}: {_listed(values)}")
            if not self._training:
                self._finish()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Copy the logs beside the checkpoint that was saved."""
        if self._begun(args, state):
            self._note(f"checkpoint-{state.global_step} is saved")
            self._copy()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Copy them."""
        if self._begun(args, state):
            self._copy()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Copy them for the last time; a mount that is being repaired is waited for."""
        if self._begun(args, state):
            self._note(f"training ends at step {state.global_step}")
            self._handler.detach()
            if not self._finish() and self._files is not None and self._files.mount is not None:
                limit = timeouts.limits(settings.load()).repair
                self._guard(self._files.mount.wait_until_serving, limit)
                self._finish()
            self._training = False

    def fail(self, error: BaseException) -> None:
        """Write why the training ended, and copy the logs once."""
        if self._training:
            told = "".join(traceback.format_exception(error)).rstrip()
            self._note(f"training ends with {type(error).__name__}\n{told}")
            self._handler.detach()
            self._finish()
            self._training = False

    def _begun(self, args: Any, state: Any) -> bool:
        """Whether this process writes; also where the callback was added after the beginning."""
        if not state.is_world_process_zero:
            return False
        if self._files is None:
            self._guard(self._open, args)
        return self._files is not None

    def _open(self, args: Any) -> LogFiles:
        top = Path(paths.resolve(Path(args.output_dir) / RUN_LOGS))
        mount = Mount.containing(args.output_dir)
        if mount is not None and not backends.load(mount.spec.backend).mounts:
            # A disk takes each line as it is written, and there is nothing to copy.
            mount = None
        record = mount.last_record() if mount is not None else None
        key = (str(top), mount.spec.id if mount else "", record.began if record else 0.0)
        # Somebody may have removed the directory between two trainings.
        logs = _OPEN.get(key) if mount is not None and top.is_dir() else None
        if logs is None:
            if mount is not None:
                self._guard(mount.wait_until_serving, timeouts.limits(settings.load()).repair)
            logs = _OPEN[key] = _begin(top, mount)
        if self._files is not logs.files:
            self._files, self._mirror = logs.files, LogMirror(logs.files.copy, self._copied)
        self._log, self._metrics = logs.log, logs.metrics
        return logs.files

    def _append_metrics(self, state: Any, values: dict[str, Any]) -> None:
        when = timestamp(time.time())
        line = {"time": when, "step": state.global_step, "epoch": _plain(state.epoch), **values}
        if self._metrics is not None:
            _append(self._metrics, json.dumps(line))

    def _note(self, text: str) -> None:
        self._guard(self._write, text)

    def _write(self, text: str) -> None:
        if self._log is not None:
            _append(self._log, f"{timestamp(time.time())} {text}")

    def _copy(self) -> None:
        """Have what has changed copied."""
        self._flush()
        if self._mirror is not None:
            self._mirror.ask()

    def _finish(self) -> bool:
        """Copy what has changed; False if something could not be, which is told."""
        self._flush()
        if self._mirror is None or self._files is None:
            return True
        seconds = min(LAST_COPY_SECONDS, timeouts.limits(settings.load()).stall)
        if self._mirror.finish(seconds):
            return True
        if self._mirror.busy:
            self._warn(
                f"{self._files.top} is not copied after {seconds:g} s. "
                f"The logs are in {self._files.local}"
            )
        return False

    def _flush(self) -> None:
        for board in self._boards:
            if board.tb_writer is not None:
                self._guard(board.tb_writer.flush)

    def _copied(self, problems: Sequence[str]) -> None:
        """A copy is over."""
        problems = [*self._handler.problems(), *problems]
        if problems and self._files is not None:
            self._warn(f"{'; '.join(problems)}. The logs are in {self._files.local}")
        else:
            self._warned = ""

    def _guard(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do it; what goes wrong with a log is told, and is no reason to end a training."""
        try:
            return work(*arguments)
        except (OSError, MountkitError, ValueError) as error:
            self._warn(str(error))
            return None

    def _warn(self, text: str) -> None:
        # A disk that is full is not told of at each step.
        if text != self._warned:
            self._warned = text
            logger.warning("mountkit: a log cannot be written: %s", text)


class _Handler(logging.Handler):
    """Writes what Python's loggers say into a log, too."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._to = write
        self._failed = ""
        self._at: list[logging.Logger] = []

    def attach(self) -> None:
        """Listen from now on."""
        self.detach()
        self._at = [
            one for name in LOGGERS if not (one := logging.getLogger(name)).propagate or not name
        ]
        for one in self._at:
            one.addHandler(self)

    def detach(self) -> None:
        """Listen no more."""
        for one in self._at:
            one.removeHandler(self)
        self._at = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what goes wrong is told with the next copy, for it would end here."""
        try:
            self._to(f"{record.levelname} {record.name}: {self.format(record)}")
        except OSError as error:
            self._failed = str(error)
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and self._is_alone(record.name):
            # Python prints it where there is no handler at all: this one is none of the script's.
            last.handle(record)

    def _is_alone(self, name: str) -> bool:
        """Whether no other handler gets what that logger says."""
        found: logging.Logger | None = logging.getLogger(name)
        while found is not None:
            if any(one is not self for one in found.handlers):
                return False
            found = found.parent if found.propagate else None
        return True

    def problems(self) -> list[str]:
        """What went wrong since this was last asked."""
        failed, self._failed = self._failed, ""
        return [failed] if failed else []


def watch(trainer: type[Any], handler: type[Any], callback: type[RunLogCallback]) -> None:
    """Have every training prepare its callbacks of that class, and tell them of an error.

    TensorBoard's callback comes before others and opens its file at the first event, which none of
    them is told before. (transformers 5.24: ``CallbackHandler.on_train_begin`` in
    ``trainer_callback.py`` has no callback called yet, ``Trainer._inner_training_loop`` trains.)
    """

    def begin(it: Any, call: Call) -> Any:
        args, state = call.argument(0, "args"), call.argument(1, "state")
        for one in it.callbacks:
            if isinstance(one, callback):
                one.prepare(it.callbacks, args, state)
        return call()

    def loop(it: Any, call: Call) -> Any:
        try:
            return call()
        except BaseException as error:
            for one in it.callback_handler.callbacks:
                if isinstance(one, callback):
                    one.fail(error)
            raise

    hook(handler, "on_train_begin", begin)
    hook(trainer, "_inner_training_loop", loop)


def _append(path: Path, line: str) -> None:
    # Opened each time, so that a process which is forked meanwhile has nothing of it.
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{line}\n")


def _plain(value: Any) -> Any:
    """A value as JSON has it; a number that it does not have, as a word."""
    value = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _begin(top: Path, mount: Mount | None) -> _Logs:
    """Go on where an earlier run left the logs of that place.

    Raises OSError if there is no room for them on the local disk.
    """
    files = LogFiles(top, mount)
    log, said = files.continued(LOG)
    metrics, more = files.continued(METRICS)
    for each in filter(None, (said, more)):
        logger.warning("mountkit: %s", each)
    atexit.register(_remove, files, os.getpid())
    return _Logs(files, log, metrics)


def _remove(files: LogFiles, owner: int) -> None:
    """At the end of the process that wrote them, but not what nobody else has."""
    if os.getpid() == owner and files.settled:
        files.remove()
