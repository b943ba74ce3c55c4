"""Weights to begin a training with: of a saved model, or of a checkpoint, here or in a bucket."""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.checkpoints import newest
from mountkit.config import settings
from mountkit.errors import ConfigurationError, UsageError
from mountkit.mounts.location import Place
from mountkit.mounts.mount import Mount
from mountkit.mounts.newest_checkpoint import newest_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mountkit.store.base import Store

# What Trainer looks for in ``_load_from_checkpoint`` (transformers 5.24), and what it lists.
_WEIGHTS = re.compile(
    r"(?:model|adapter_model|pytorch_model)[^/]*\.(?:safetensors|bin)(?:\.index\.json)?"
)
_BESIDE = re.compile(r"config\.json|adapter_config\.json")


@contextmanager
def loaded(trainer: Any, path_or_url: str) -> Iterator[None]:
    """Have a Trainer's model begin with these weights, while this lasts.

    Raises
    ------
    UsageError
        If there are none.
    ConfigurationError
        If they are of another model, or this Trainer cannot load them before it trains.
    MountkitError
        If the store cannot be asked.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ConfigurationError(
            f"The weights of {path_or_url} cannot be loaded: FSDP and DeepSpeed split the model "
            "before it could have them.",
            hint="Have the script load them, such as by from_pretrained, and leave out load_path.",
        )
    with ExitStack() as stack:
        top = stack.enter_context(_at_hand(path_or_url, trainer.args.output_dir))
        if trainer.model_init is None:
            _load(trainer, top, trainer.model)
            stack.close()
            yield
            return
        # The model is made when the training begins.
        make = trainer.call_model_init

        def made(*arguments: Any, **options: Any) -> Any:
            model = make(*arguments, **options)
            _load(trainer, top, model)
            return model

        trainer.call_model_init = made
        try:
            yield
        finally:
            del trainer.call_model_init


def _load(trainer: Any, top: Path, model: Any) -> None:
    names = _names(top)
    if names and names.isdisjoint(model.state_dict()):
        raise ConfigurationError(
            f"The weights of {top} are of another model: none of their names is one of "
            f"{type(model).__name__}'s.",
            hint="Give the load_path of such a model, or leave it out.",
        )
    # Trainer's own, for all that it resumes from: whole, sharded, and adapters.
    trainer._load_from_checkpoint(str(top), model)  # noqa: SLF001


def _names(top: Path) -> frozenset[str]:
    """The names of the weights, as far as they can be told without loading them."""
    index = top / "model.safetensors.index.json"
    if index.is_file():
        return frozenset(json.loads(index.read_bytes())["weight_map"])
    weights = top / "model.safetensors"
    if not weights.is_file():
        return frozenset()
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return frozenset(file.keys())


@contextmanager
def _at_hand(path_or_url: str, output_dir: str) -> Iterator[Path]:
    """A local directory that has them; of a URL, until this is over."""
    if "://" not in path_or_url:
        top = Path(path_or_url)
        inside = "" if _found(path.name for path in top.iterdir()) else _local(top)
        yield top / inside
        return
    store = _store(path_or_url, output_dir)
    names = [entry.path for entry in store.list()]
    top_level = [name for name in names if "/" not in name]
    checkpoint = "" if _found(top_level) else _proven(store)
    below = f"{checkpoint}/" if checkpoint else ""
    wanted = [name for name in names if _wanted(name.removeprefix(below), name, below)]
    with tempfile.TemporaryDirectory(prefix="mountkit-weights-") as folder:
        for name in wanted:
            with (Path(folder) / name.removeprefix(below)).open("wb") as file:
                for chunk in store.chunks(name):
                    file.write(chunk)
        yield Path(folder)


def _wanted(inside: str, name: str, below: str) -> bool:
    fitting = _WEIGHTS.fullmatch(inside) or _BESIDE.fullmatch(inside)
    return name.startswith(below) and fitting is not None


def _found(names: Iterable[str]) -> bool:
    return any(_WEIGHTS.fullmatch(name) for name in names)


def _local(top: Path) -> str:
    # In a mount one that is proven, as in its bucket.
    newest_there = newest_checkpoint(top, settings.load(), weights_only=True)
    if newest_there is None or not _found(path.name for path in Path(newest_there).iterdir()):
        raise _nothing(str(top))
    return Path(newest_there).name


def _proven(store: Store) -> str:
    name = newest.in_store(store, weights_only=True)
    if name is None:
        raise _nothing(store.source.url)
    return name


def _nothing(where: str) -> UsageError:
    return UsageError(
        f"load_path {where} has no weights, and no checkpoint that has some.",
        hint="Give the directory, or the URL, of a saved model or of a run's checkpoints.",
    )


def _store(url: str, output_dir: str) -> Store:
    """Its store; reached as that of the mount where it is of one kind with it."""
    place = Place.find(url, settings.load())
    mount = Mount.containing(output_dir)
    if mount is not None and mount.spec.source.scheme == place.source.scheme:
        place = Place(place.source, mount.spec.store, place.prefix)
    return place.store()
