"""Which place the demo plays in: a store that it starts on this machine, or one of the user's."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.config.environment import FILE_VARIABLES
from mountkit.config.settings import absolute, load
from mountkit.demo import servers
from mountkit.demo.environment import command_lines
from mountkit.demo.places import Files, Objects, Place
from mountkit.demo.servers import CLIENT_VARIABLES, Ground, Reached
from mountkit.errors import MountUnavailableError, UsageError
from mountkit.store import parse, provider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

#: By the word of ``--store``: the program of its server, "" for rclone, and what starts it.
SERVERS: Mapping[str, tuple[str, Callable[[Ground], AbstractContextManager[Reached]]]] = (
    MappingProxyType(
        {
            "s3": ("", servers.s3),
            "sftp": ("", servers.sftp),
            "gs": ("fake-gcs-server", servers.gs),
            "az": ("azurite-blob", servers.az),
            "hdfs": ("hdfs-server", servers.hdfs),
        }
    )
)
DEFAULT = "s3"
SECRET = re.compile(r"SECRET|TOKEN|PASS|KEY|SAS|CONNECTION_STRING")
PUBLIC = re.compile(r"_(ID|FILE|PATH|COMMAND)$")
SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """Where the demo shall play, as it was asked for."""

    store: str | None = None
    source: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    keep: bool = False
    data_dir: Path | None = None


def choose(wish: Wish, rclone: str, path: str) -> Callable[[Path, str], Place]:
    """Give what makes the place, of the demo's own directory and the name of the run.

    Raises MountUnavailableError if the server's program is not on the search path.
    """
    if wish.source:
        return lambda _, run: Objects(users_own(wish), run)
    store = wish.store or DEFAULT
    server, start = SERVERS[store]
    program = shutil.which(server, path=path) if server else rclone
    if program is None:
        raise MountUnavailableError(
            f"There is no {server} on PATH, which --store {store} starts.",
            hint=f"Play in a store of your own: mountkit demo --source {store}://PLACE/PREFIX. "
            "Or get the server, in a clone of mountkit: PATH=$(.ci/setup-stores):$PATH",
        )

    def make(work: Path, run: str) -> Place:
        data = work / "data"
        if wish.data_dir is not None:
            data = wish.data_dir.absolute()
        elif wish.keep:
            data = Path(tempfile.mkdtemp(prefix="mountkit-demo-"))
        serve = start(Ground(program, rclone, data, work))
        if server:
            return Objects(serve, run)
        return Files(serve, data, run, given=wish.data_dir is not None)

    return make


def refuse_contradictions(wish: Wish) -> None:
    """Raise UsageError for options that do not go together, or a URL that is none."""
    if wish.source:
        parse(wish.source)
    if wish.store and wish.source:
        raise UsageError(
            "--store starts a store on this machine, --source names one that serves already.",
            hint="Give one of the two.",
        )
    if not wish.source and (wish.endpoint_url or wish.region or wish.profile):
        raise UsageError(
            "--endpoint-url, --region and --profile say how a --source is reached.",
            hint="Such as: mountkit demo --source s3://my-bucket/demo --region eu-central-1",
        )
    directory = not wish.source and not SERVERS[wish.store or DEFAULT][0]
    if wish.data_dir and not directory:
        raise UsageError(
            "--data-dir is where --store s3 and --store sftp keep the bucket.",
            hint="Leave it out.",
        )
    if wish.keep and not directory and not wish.source:
        raise UsageError(
            f"What --store {wish.store} holds ends with its server, and cannot be kept.",
            hint="Keep it with --store s3 or sftp, or in a place of your own: --source URL",
        )


@contextmanager
def users_own(wish: Wish) -> Iterator[Reached]:
    """A place in a store of the user's, with the credentials that the environment has."""
    source = parse(wish.source or "")
    given = load(endpoint_url=wish.endpoint_url, region=wish.region, profile=wish.profile)
    own = {name: value for name, value in os.environ.items() if not name.startswith("MOUNTKIT_")}
    for name in (*FILE_VARIABLES, *provider(source.scheme).file_variables):
        if own.get(name):
            # The commands run in another directory.
            own[name] = str(absolute(Path(own[name])))
    # One that somebody else shows is not mountkit's doing.
    shown = command_lines()
    secrets = tuple(each for each in secrets_in(own) if each not in shown)
    told = "your own, with the credentials of your environment"
    yield Reached(source.url, told, own, given.store(source), secrets)


def secrets_in(variables: Mapping[str, str]) -> list[str]:
    """What nobody may see of the variables that lead to stores."""
    found = [
        value
        for name, value in variables.items()
        if name.startswith(CLIENT_VARIABLES) and SECRET.search(name) and not PUBLIC.search(name)
    ]
    # In a connection string, also the key alone.
    found += [value.partition("AccountKey=")[2].partition(";")[0] for value in found]
    return [value for value in found if len(value) >= SHORTEST_SECRET]
