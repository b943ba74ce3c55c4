"""What a user can set, and where it is read from."""

from __future__ import annotations

import logging
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator

from mountkit.config.address import Address
from mountkit.errors import ConfigurationError
from mountkit.linux import mount_table
from mountkit.spec import LARGEST_FILE_BYTES, KeepLocal, Source, StoreOptions
from mountkit.store import provider

logger = logging.getLogger("mountkit")

FILE_NAME = "mountkit.toml"
PREFIX = "mountkit_"


class Settings(BaseModel):
    """What a user can set; ``load`` reads it. All durations are in seconds."""

    # Not pydantic-settings: what it loads for clouds and command lines, which nobody uses here,
    # took a seventh of the start of every command.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # "inf" would mean the opposite: a request with that limit fails at once, a wait is over.
        allow_inf_nan=False,
    )

    source: str | None = Field(None, description="the bucket, s3://bucket/prefix")
    target: str | None = Field(None, description="the directory to mount it at")
    backend: str = Field("auto", description="auto, rclone, mountpoint or direct")
    endpoint_url: str | None = Field(None, description="the store, where it is not AWS")
    region: str | None = Field(None, description="the bucket's region")
    profile: str | None = Field(None, description="a profile of ~/.aws/config")
    cache_dir: Path | None = Field(None, description="where files wait for their upload")
    state_dir: Path | None = Field(None, description="what is mounted, private to the user")
    largest_file: ByteSize = Field(
        ByteSize(LARGEST_FILE_BYTES), gt=0, description="the size that no file will exceed"
    )
    keep_local: KeepLocal = Field("newest", description="proven checkpoints with a local copy")
    cache_size: ByteSize | None = Field(None, gt=0, description="room for all local copies")
    node: int = Field(0, ge=0, description="of machines that train together: which one this is")
    grace: float | None = Field(None, gt=0, description="from a signal until all has to be over")
    stopped_code: int | None = Field(
        None, ge=1, le=255, description="exit code where a signal stopped the command"
    )
    mount_timeout: float = Field(20.0, gt=0, description="from the daemon's start to serving")
    stall_timeout: float = Field(120.0, gt=0, description="without progress of an upload")
    drain_timeout: float = Field(3600.0, gt=0, description="for a whole drain, or one proof")
    repair_timeout: float = Field(120.0, gt=0, description="a save waits for a broken mount")
    probe_interval: float = Field(0.5, gt=0, description="between two questions to the mount")
    probe_timeout: float = Field(5.0, gt=0, description="until a question counts as unanswered")
    hang_timeout: float = Field(60.0, gt=0, description="without an answer, and with no work done")
    remount_attempts: int = Field(10, ge=1, description="in a row, before the mount is given up")
    attach: bool = Field(True, description="prove each Trainer's checkpoints while it trains")
    resume: bool = Field(False, description="each Trainer goes on from its newest checkpoint")
    on_failure: Literal["raise", "warn"] = Field("raise", description="of an attached proof")
    load_path: str | None = Field(None, description="weights to begin with, without a checkpoint")
    listen: str | None = Field(None, description="[HOST:]PORT for /healthz, /readyz, /metrics")
    log_format: Literal["human", "json"] = Field("human", description="of the lines on stderr")

    @field_validator("listen", mode="before")
    @classmethod
    def _check_listen(cls, value: object) -> object:
        # In a TOML file a port alone is a number.
        return value if value is None else str(Address.parse(str(value)))

    @field_validator("cache_dir", "state_dir")
    @classmethod
    def _make_absolute(cls, value: Path | None) -> Path | None:
        # The supervisor in the background and the command may be in another directory by then.
        # mountkit.toml is in the current one, so that its paths are relative to itself.
        return None if value is None else absolute(value)

    @field_validator("load_path")
    @classmethod
    def _make_local_absolute(cls, value: str | None) -> str | None:
        return value if value is None or "://" in value else str(absolute(Path(value)))

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
        return Settings(**{**_of_file(), **_of_environment(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        why = first["msg"].removeprefix("Value error, ")
        # Not every setting has a flag.
        flag = f"--{name.replace('_', '-')}" if name in given else ""
        raise ConfigurationError(
            f"{name} cannot be {first.get('input')!r}: {why}.",
            hint=f"Correct {flag or f'MOUNTKIT_{name.upper()} or mountkit.toml'}.",
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"mountkit.toml cannot be read: {error}.", hint="Correct or remove ./mountkit.toml."
        ) from error


def _of_environment() -> dict[str, str]:
    """What ``MOUNTKIT_*`` says, in letters of any case; an empty variable is not set."""
    names = {f"{PREFIX}{name}": name for name in Settings.model_fields}
    given = ((name.lower(), value) for name, value in os.environ.items() if value)
    return {names[name]: value for name, value in given if name in names}


def _of_file() -> dict[str, Any]:
    """What ``./mountkit.toml`` says, its names in letters of any case, too."""
    path = _file()
    if path is None or not path.is_file():
        return {}
    with path.open("rb") as stream:
        content = tomllib.load(stream)
    known = Settings.model_fields
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
