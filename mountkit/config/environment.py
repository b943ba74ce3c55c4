"""What daemons and commands get of the environment, and where programs are looked for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mountkit.config.settings import Settings, absolute
from mountkit.store import provider, providers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.spec import Source, StoreOptions

# What a daemon gets to see beside what its store takes. Everything else, RCLONE_* above all, could
# change where bytes go.
DAEMON_VARIABLES = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_.*|TZ|TMPDIR|SSL_CERT_FILE|SSL_CERT_DIR"
    r"|(?:HTTP|HTTPS|NO|ALL)_PROXY|(?:http|https|no|all)_proxy|MOUNTKIT_TEST_RUN"
)

# Of these, what names a file. A daemon runs in /, and so does a supervisor in the background.
FILE_VARIABLES = ("SSL_CERT_FILE",)


def leave_directory() -> None:
    """Go to /, and let no variable that names a file mean another one from there."""
    of_stores = (name for each in providers() for name in each.file_variables)
    for name in (*FILE_VARIABLES, *of_stores):
        if os.environ.get(name):
            os.environ[name] = _from_here(os.environ[name])
    os.chdir("/")


def _from_here(path: str) -> str:
    try:
        return str(absolute(Path(path)))
    except ValueError:
        # Whoever opens it says that it is not there.
        return path


def daemon_environment(source: Source, options: StoreOptions) -> dict[str, str]:
    """The explicit environment of a daemon: credentials and the network, nothing else."""
    store = provider(source.scheme)
    env = {
        name: value
        for name, value in os.environ.items()
        if DAEMON_VARIABLES.fullmatch(name) or store.variables.fullmatch(name)
    }
    files = (*FILE_VARIABLES, *store.file_variables)
    env.update({name: _from_here(env[name]) for name in files if env.get(name)})
    return {**env, **store.environment(options)}


def command_environment(settings: Settings | None = None) -> Mapping[str, str]:
    """The environment for the user's own command: all of ours.

    With ``settings``, it also finds the mount if it goes to another directory, or if they came
    from ``mountkit.toml`` or a flag.
    """
    env = dict(os.environ)
    for name in ("cache_dir", "state_dir"):
        place = getattr(settings, name, None)
        if place is not None:
            env[f"MOUNTKIT_{name.upper()}"] = str(place)
    return env


def tensorboard_directory() -> str:
    """Where transformers has TensorBoard write, or "" for a folder below ``output_dir``."""
    return os.environ.get("TENSORBOARD_LOGGING_DIR", "")


def search_path() -> str:
    """Where programs are looked for."""
    return os.environ.get("PATH", os.defpath)
