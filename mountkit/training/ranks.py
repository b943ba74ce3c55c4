"""The ranks of a training: what they agree on, and which of them proves what.

Everything here is called in the main thread, by every rank at the same places: no collective is
called from a thread. The ranks have a process group of their own for it, on the CPU (gloo), so that
no GPU is waited for, and its waits are as long as mountkit's own.
"""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import mountkit
from mountkit import errors
from mountkit.checkpoints.receipt import Layout
from mountkit.errors import ConfigurationError, MountkitError, NotDurableError
from mountkit.mounts import location
from mountkit.training.shared_signal import SharedSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mountkit.config.timeouts import Limits
    from mountkit.mounts.mount import Mount

    Result = TypeVar("Result")
    Value = TypeVar("Value")

# Until every rank begins its training; the slowest loads a checkpoint before.
HELLO_SECONDS = 600.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Place(NamedTuple):
    """Where a rank saves: what decides on the node that it belongs to.

    ``node`` is the same for all ranks that share one mount, ``url`` for all that save in one place.
    ``saves`` tells whether Trainer has this rank write what is saved once.
    """

    node: tuple[str, ...] = ()
    url: str = ""
    saves: bool = False
    on_each_node: bool = False
    version: str = mountkit.__version__

    @classmethod
    def of(cls, mount: Mount | None, below: str, args: Any) -> Place:
        """That of this process; without a mount, one that says so."""
        if mount is None:
            return cls(saves=args.should_save, on_each_node=args.save_on_each_node)
        found = mount.directory.path.stat()
        # Machines may have one name, containers one kernel, and both a directory of one path.
        node = (
            platform.node(),
            BOOT_ID.read_text().strip(),
            str(mount.directory.path),
            f"{found.st_dev}:{found.st_ino}",
        )
        url = mount.spec.source.child(below).url
        return cls(node, url, args.should_save, args.save_on_each_node)


def layout(places: Sequence[Place], rank: int) -> Layout | None:
    """Which ranks share a mount; None if none has one. Pure, and so the same on all ranks.

    Raises ConfigurationError if they cannot save one checkpoint together.
    """
    without = [each for each, place in enumerate(places) if not place.node]
    if len(without) == len(places):
        return None
    if without:
        raise ConfigurationError(
            f"output_dir lies in a mount on rank {places.index(_first_mounted(places))}, and in "
            f"none on rank {_listed(without)}: the files of those would not reach the bucket.",
            hint="Mount on every node, as with `mountkit run` around each node's torchrun.",
        )
    urls = sorted({place.url for place in places})
    if len(urls) > 1:
        raise ConfigurationError(
            f"The ranks save in different places: {', '.join(urls)}.",
            hint="Mount one URL on every node, and give one output_dir below it.",
        )
    versions = sorted({place.version for place in places})
    if len(versions) > 1:
        raise ConfigurationError(
            f"The ranks have different versions of mountkit: {', '.join(versions)}.",
            hint="Install one on every node.",
        )
    writers = [each for each, place in enumerate(places) if place.saves]
    if len(writers) > 1:
        raise ConfigurationError(
            f"Rank {_listed(writers)} each write the whole checkpoint to {urls[0]}: "
            "save_on_each_node has the nodes replace each other's files.",
            hint="Set save_on_each_node=False: the nodes share one bucket.",
        )
    nodes: dict[tuple[str, ...], list[int]] = {}
    for each, place in enumerate(places):
        nodes.setdefault(place.node, []).append(each)
    return Layout(rank, tuple(tuple(ranks) for ranks in nodes.values()))


def _first_mounted(places: Sequence[Place]) -> Place:
    return next(place for place in places if place.node)


def _listed(ranks: Sequence[int]) -> str:
    return " and ".join(str(rank) for rank in ranks)


@dataclass(frozen=True, slots=True)
class Told:
    """An error as the other ranks hear of it."""

    rank: int
    kind: str
    message: str
    hint: str
    unproven: tuple[errors.Unproven, ...] = ()

    @classmethod
    def by(cls, rank: int, error: Exception) -> Told:
        """That of this rank."""
        if not isinstance(error, MountkitError):
            text = f"{type(error).__name__}: {error}"
            return cls(rank, NotDurableError.__name__, text, "See that rank's own error.")
        unproven = error.unproven if isinstance(error, NotDurableError) else ()
        return cls(rank, type(error).__name__, error.message, error.hint, unproven)

    def error(self) -> MountkitError:
        """The error to raise here: of the same kind, so that the job ends with the same code."""
        kind = getattr(errors, self.kind, NotDurableError)
        message = f"Rank {self.rank} failed, and so all ranks end: {self.message}"
        if isinstance(kind, type) and issubclass(kind, NotDurableError):
            return kind(message, hint=self.hint, unproven=self.unproven)
        known = isinstance(kind, type) and issubclass(kind, MountkitError)
        return (kind if known else NotDurableError)(message, hint=self.hint)


class Group:
    """The process group of the ranks, for small things on the CPU."""

    def __init__(self, limits: Limits) -> None:
        import torch
        from torch import distributed

        if not distributed.is_available() or not distributed.is_initialized():
            raise ConfigurationError(
                "Several processes train together without a process group of torch.distributed; "
                "mountkit has nothing by which they could agree.",
                hint="Start them with torchrun or accelerate launch, or leave CheckpointCallback "
                "out: mountkit run proves all at the end.",
            )
        self._torch, self._distributed = torch, distributed
        self.rank: int = distributed.get_rank()
        self.world: int = distributed.get_world_size()
        self._hello()
        # As long as a rank may wait for a proof, a mount and a store, one after the other.
        seconds = limits.drain + limits.repair + limits.stall
        with self._others():
            self._group = distributed.new_group(
                backend="gloo", timeout=timedelta(seconds=max(seconds, HELLO_SECONDS))
            )

    def _hello(self) -> None:
        """See that every rank is here, by the store that they met in: it has a limit of ours."""
        store = self._distributed.distributed_c10d._get_default_store()
        count = store.add(f"mountkit/count/{self.rank}", 1)
        store.set(f"mountkit/{count}/{self.rank}", b"1")
        for rank in range(self.world):
            try:
                store.wait([f"mountkit/{count}/{rank}"], timedelta(seconds=HELLO_SECONDS))
            except RuntimeError as error:
                raise ConfigurationError(
                    f"Rank {rank} did not begin its training with mountkit within "
                    f"{HELLO_SECONDS:.0f} s.",
                    hint="Add CheckpointCallback on every rank, not on rank 0 alone.",
                ) from error

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each of the flags: whether it is set on any rank."""
        tensor = self._torch.tensor(flags, dtype=self._torch.int32)
        with self._others():
            self._distributed.all_reduce(
                tensor, op=self._distributed.ReduceOp.MAX, group=self._group
            )
        return tuple(bool(flag) for flag in tensor.tolist())

    def gather(self, value: Value) -> list[Value]:
        """The value of every rank, by rank."""
        found: list[Any] = [None] * self.world
        with self._others():
            self._distributed.all_gather_object(found, value, group=self._group)
        return found

    def _others(self) -> _Others:
        return _Others(self.rank)


class _Others:
    """Around a collective: what it raises says that another rank is gone."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, RuntimeError):
            raise NotDurableError(
                f"Rank {self._rank} cannot go on: another rank of this training is gone, or did "
                f"not answer ({str(error).partition(chr(10))[0]}).",
                hint="See that rank's own error; then start the job again: it goes on from the "
                "newest proven checkpoint.",
            ) from error


class Ranks:
    """The ranks of one training, as one of them sees them. Alone, it agrees with itself."""

    def __init__(self, group: Group | None = None) -> None:
        self._group = group
        self._layout: Layout | None = None
        self._saves = 0
        self._name = ""
        self._managers: tuple[Any, ...] = ()
        self._signal: SharedSignal | None = None

    @property
    def alone(self) -> bool:
        """Whether this process trains alone, or nobody has a mount."""
        return self._group is None

    @property
    def layout(self) -> Layout | None:
        """Who shares a mount with whom; None for one that is alone."""
        return self._layout

    @property
    def first(self) -> bool:
        """Whether this rank proves for those who share its mount."""
        return self._layout is None or self._layout.first

    def arrange(
        self, find: Callable[[], Mount | None], args: Any, limits: Limits
    ) -> Mount | None:
        """Find the mount of this rank; tell each other where all save, and settle who proves what.

        Raises MountkitError on all ranks if it does on one, or if they cannot save together.
        """
        if self._group is None:
            return find()

        def place() -> tuple[Mount | None, Place]:
            mount = find()
            below = ""
            if mount is not None:
                mount.wait_until_serving(limits.repair)
                below = location.followed(mount, mount.relative(args.output_dir))
            return mount, Place.of(mount, below, args)

        mount, here = self.together(place)
        self._layout = layout(self._group.gather(here), self._group.rank)
        if self._layout is None:
            # There is nothing to agree on.
            self._group = None
            return None
        self._name = self._group.gather(uuid.uuid4().hex[:12])[0]
        if self._managers:
            self._signal = SharedSignal(self._managers, first=self._layout.first)
        return mount

    def watch(self, managers: Sequence[Any]) -> None:
        """What saves on a signal of one rank does so on all, once it is known who they are."""
        self._managers = () if self._group is None else tuple(managers)

    def leave(self) -> None:
        """The training is over."""
        if self._signal is not None:
            self._signal.give_back()

    def next_save(self) -> str:
        """The name of the save that begins now, the same on all ranks."""
        self._saves += 1
        return f"{self._name}-{self._saves}"

    def settle(self, error: Exception | None) -> None:
        """Raise what any rank has to raise, on all of them."""
        if self._group is None:
            if error is not None:
                raise error
            return
        signal = self._signal
        failed, signalled = self._group.any(
            error is not None, signal is not None and signal.pending
        )
        if signalled and signal is not None:
            signal.agreed()
        if not failed:
            return
        told = self._group.gather(
            None if error is None else Told.by(self._group.rank, error),
        )
        if error is not None:
            raise error
        raise next(each for each in told if each is not None).error()

    def together(self, work: Callable[[], Result]) -> Result:
        """Do this rank's part; an error of any rank is raised on all of them."""
        error: Exception | None = None
        result: Any = None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - raised again once all have heard of it
            error = raised
        self.settle(error)
        return result  # type: ignore[no-any-return] # without an error it is the work's

    def gather(self, value: Value) -> list[Value]:
        """The value of every rank, by rank."""
        return [value] if self._group is None else self._group.gather(value)

    def agree_on_step(self, step: int) -> None:
        """See that all have resumed at one step. Raises ConfigurationError on all if not."""
        steps = self.gather(step)
        if len(set(steps)) > 1:
            told = ", ".join(f"rank {rank} at {each}" for rank, each in enumerate(steps))
            raise ConfigurationError(
                f"The ranks begin at different steps: {told}.",
                hint="Give all of them the same resume_from_checkpoint.",
            )


def same_resume(asked: object, output_dir: str, ranks: Ranks) -> object:
    """What to resume from: where the ranks were told different things, what rank 0 was told.

    A checkpoint below ``output_dir`` is the same one on a node that mounts elsewhere.
    """
    if ranks.alone:
        return asked
    top = os.path.realpath(output_dir)
    name = asked
    if isinstance(asked, str):
        path = os.path.realpath(asked)
        name = os.path.relpath(path, top) if path.startswith(f"{top}/") else path
    found = ranks.gather(name or None)
    if all(each == found[0] for each in found):
        return asked
    leads = found[0]
    if not isinstance(leads, str):
        return leads
    return leads if os.path.isabs(leads) else str(Path(output_dir) / leads)
