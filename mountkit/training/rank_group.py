"""The process group by which the ranks agree, and what they tell each other of an error.

It is one of their own, on the CPU (gloo), so that no GPU is waited for. Only the main thread may
call it, on every rank at the same places.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mountkit import errors
from mountkit.errors import ConfigurationError, MountkitError, NotDurableError

if TYPE_CHECKING:
    from mountkit.config.timeouts import Limits

    Value = TypeVar("Value")

# Until every rank begins its training; the slowest loads a checkpoint before.
HELLO_SECONDS = 600.0


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
        return cls(rank, errors.public_name(error), error.message, error.hint, unproven)

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
        # There is no public way to it.
        store = self._distributed.distributed_c10d._get_default_store()  # noqa: SLF001
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
