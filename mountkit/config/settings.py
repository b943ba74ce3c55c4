"""What a user can set, and where it is read from."""

from __future__ import annotations

import logging
import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from mountkit.config.address import Address
from mountkit.config.values import Count, ExitCode, Index, Seconds, Size, Switch, Text, convert
from mountkit.errors import ConfigurationError
from mountkit.linux import mount_table
from mountkit.spec import LARGEST_FILE_BYTES, KeepLocal, Source, StoreOptions
from mountkit.store import provider

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("mountkit")

FILE_NAME = "mountkit.toml"
PREFIX = "mountkit_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user can set; ``load`` reads it. All durations are in seconds."""

    #: The bucket, s3://bucket/prefix.
    source: Text | None = None
    #: The directory to mount it at.
    target: Text | None = None
    #: ``auto``, ``rclone``, ``mountpoint`` or ``direct``.
    backend: Text = "auto"
    #: The store, where it is not AWS.
    endpoint_url: Text | None = None
    #: The bucket's region.
    region: Text | None = None
    #: A profile of ~/.aws/config.
    profile: Text | None = None
    #: Where files wait for their upload.
    cache_dir: Path | None = None
    #: What is mounted, private to the user.
    state_dir: Path | None = None
    #: The size that no file will exceed.
    largest_file: Size = LARGEST_FILE_BYTES
    #: Proven checkpoints with a local copy.
    keep_local: KeepLocal = "newest"
    #: Room for all local copies.
    cache_size: Size | None = None
    #: Of machines that train together: which one this is.
    node: Index = 0
    #: From a signal until all has to be over.
    grace: Seconds | None = None
    #: Exit code where a signal stopped the command.
    stopped_code: ExitCode | None = None
    #: From the daemon's start to serving.
    mount_timeout: Seconds = 20.0
    #: Without progress of an upload.
    stall_timeout: Seconds = 120.0
    #: For a whole drain, or one proof.
    drain_timeout: Seconds = 3600.0
    #: A save waits for a broken mount.
    repair_timeout: Seconds = 120.0
    #: Between two questions to the mount.
    probe_interval: Seconds = 0.5
    #: Until a question counts as unanswered.
    probe_timeout: Seconds = 5.0
    #: Without an answer, and with no work done.
    hang_timeout: Seconds = 60.0
    #: In a row, before the mount is given up.
    remount_attempts: Count = 10
    #: Prove each Trainer's checkpoints while it trains.
    attach: Switch = True
    #: Each Trainer goes on from its newest checkpoint.
    resume: Switch = False
    #: Of an attached proof.
    on_failure: Literal["raise", "warn"] = "raise"
    #: Weights to begin with, without a checkpoint.
    load_path: Text | None = None
    #: [HOST:]PORT for /healthz, /readyz, /metrics.
    listen: Text | None = None
    #: Of the lines on stderr.
    log_format: Literal["human", "json"] = "human"

    @property
    def address(self) -> Address | None:
        """Where to serve health and metrics, if anywhere."""
        return None if self.listen is None else Address.parse(self.listen)

    def store(self, source: Source) -> StoreOptions:
        """How its store is reached; the store's standard variables fill what nothing else set."""
        given = StoreOptions(self.endpoint_url, self.region, self.profile)
        return provider(source.scheme).options(given, os.environ)


def load(**flags: Any) -> Settings:
    """Read the settings: a flag wins over ``MOUNTKIT_*``, that over ``mountkit.toml``.

    A flag that is None was not given and masks nothing.

    Raises ConfigurationError, naming the setting that is wrong and the value it has.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        found = {**_of_file(), **_of_environment(), **given}
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"mountkit.toml cannot be read: {error}.", hint="Correct or remove ./mountkit.toml."
        ) from error
    kinds = _kinds()
    values = {}
    for name, value in found.items():
        try:
            values[name] = _read(name, value, kinds)
        except ValueError as error:
            # Not every setting has a flag.
            flag = f"--{name.replace('_', '-')}" if name in given else ""
            raise ConfigurationError(
                f"{name} cannot be {value!r}: {error}.",
                hint=f"Correct {flag or f'MOUNTKIT_{name.upper()} or mountkit.toml'}.",
            ) from error
    return Settings(**values)


def _read(name: str, value: object, kinds: Mapping[str, Any]) -> Any:
    """One setting. Raises ValueError, which says what is wrong with its value."""
    if name not in kinds:
        raise ValueError("there is no such setting")
    if name == "listen":
        # In a TOML file a port alone is a number.
        return str(Address.parse(str(value)))
    if name == "load_path":
        path = convert(value, Text)
        return path if "://" in path else str(absolute(Path(path)))
    if kinds[name] is Path:
        # The supervisor in the background and the command may be in another directory by then.
        # mountkit.toml is in the current one, so that its paths are relative to itself.
        return absolute(value if isinstance(value, Path) else Path(convert(value, Text)))
    return convert(value, kinds[name])


@lru_cache(maxsize=1)
def _kinds() -> Mapping[str, Any]:
    """What each setting takes; None, which its default may be, is nothing that anybody gives."""
    found = get_type_hints(Settings, include_extras=True)
    return {
        name: get_args(kind)[0] if type(None) in get_args(kind) else kind
        for name, kind in found.items()
    }


def _of_environment() -> dict[str, str]:
    """What ``MOUNTKIT_*`` says, in letters of any case; an empty variable is not set."""
    names = {f"{PREFIX}{name}": name for name in _kinds()}
    given = ((name.lower(), value) for name, value in os.environ.items() if value)
    return {names[name]: value for name, value in given if name in names}


def _of_file() -> dict[str, Any]:
    """What ``./mountkit.toml`` says, its names in letters of any case, too."""
    path = _file()
    if path is None or not path.is_file():
        return {}
    with path.open("rb") as stream:
        content = tomllib.load(stream)
    known = _kinds()
    # Of two that differ in that only, the first counts.
    names = reversed(content)
    return {name.lower() if name.lower() in known else name: content[name] for name in names}


def _file() -> Path | None:
    """``./mountkit.toml``, if it is there.

    In a mount it is not looked for: that may hang, and ``status`` and ``umount`` have to work
    for whoever stands in it.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:
        # It was removed, or is a mount that was taken away.
        return None
    if mount_table.mount_around(str(here)) is not None:
        return None
    path = here / FILE_NAME
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # Nobody can tell whether there is one.
        logger.warning("mountkit: %s is passed over: %s", path, error.strerror)
        return None
    return path


def absolute(path: Path) -> Path:
    """A path from now on the same wherever this process, or one that it starts, goes.

    Raises ValueError if it is relative and the current directory is gone, or names the home of
    nobody.
    """
    try:
        return path.expanduser().absolute()
    except FileNotFoundError as error:
        raise ValueError("it is relative, and the current directory is gone") from error
    except RuntimeError as error:
        raise ValueError("there is no such home") from error
