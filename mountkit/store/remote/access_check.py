"""Everything a save will need of a remote, tried in seconds, before the first step."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.names import PROBE_NAME
from mountkit.store.base import ObjectMissingError, StoreFacts
from mountkit.store.preflight import AGAIN_SECONDS, PROBE_BODY, Preflight

if TYPE_CHECKING:
    from datetime import datetime

    from mountkit.errors import MountkitError
    from mountkit.store.base import Store
    from mountkit.store.remote.client import Client

# An rclone has to be started first, and both it and an sshd reckon with keys for a while.
SECONDS = 9.0


def check(
    store: Store,
    client: Client,
    *,
    write: bool = True,
    seconds: float = SECONDS,
    pause: float = AGAIN_SECONDS,
) -> StoreFacts:
    """Try what a save does, and say what is wrong with the first thing that fails.

    ``client``: What the store asks with. ``write``: Whether to write and delete a throw-away file
    as well. ``seconds``: After how long without an answer to give up. ``pause``: After how many
    seconds to try once more, where the store refuses in a way that may pass.

    Raises
    ------
    ConfigurationError
        No such remote or bucket, or a configuration that rclone cannot use.
    PermissionDeniedError
        The credentials are refused, or may not list, write, read or delete.
    MountUnavailableError
        The store cannot be reached, or not in time; or this machine is too busy to ask it.
    """
    return _Trial(store, client, write=write).within(seconds, pause)


class _Trial(Preflight):
    def __init__(self, store: Store, client: Client, *, write: bool) -> None:
        super().__init__(store.source.url, "list")
        self._store = store
        self._client = client
        self._write = write

    def silent(self, seconds: float) -> MountkitError:
        return self._client.silent(seconds, self.doing, "")

    def run(self) -> StoreFacts:
        store, remote = self._store, self._client.remote
        self._bucket()
        dated = self._write_and_delete() if self._write else None
        return StoreFacts(
            url=store.source.url,
            endpoint_url="",
            region="",
            credentials=f"the remote {remote.name!r} of rclone, of type {remote.type}",
            written=self._write,
            seconds=self.seconds,
            dated=dated,
        )

    def _bucket(self) -> None:
        """See that the place may be listed, and that there is a bucket where there have to be."""
        store, client = self._store, self._client
        self.doing = "list"
        features = client.call("operations/fsinfo", "list", "").get("Features") or {}
        bucket = store.source.prefix.partition("/")[0]
        if not features.get("BucketBased"):
            store.directories()
            return
        if not bucket:
            raise ConfigurationError(
                f"{store.source.url} names no bucket of the remote {store.source.bucket!r}.",
                hint=f"See which there are: rclone lsd {store.source.bucket}:",
            )
        try:
            # Of a bucket that is empty rclone lists nothing, and of one that is not there neither
            # does every kind of store. So it is asked for, and not made.
            options = {"noMimeType": True}
            client.call("operations/list", "list", "", remote=bucket, opt=options)
        except ObjectMissingError as error:
            raise ConfigurationError(
                f"There is no bucket {bucket!r} on the remote {store.source.bucket!r}.",
                hint=f"Make it, or correct its name: rclone lsd {store.source.bucket}:",
            ) from error

    def _write_and_delete(self) -> datetime | None:
        """When the store dated what was written."""
        store = self._store
        # The names of drafts are not those of what may be left.
        name = f"{PROBE_NAME}{secrets.token_hex(8)}"
        self.doing = "write"
        # Reads it back, too.
        store.put(name, PROBE_BODY)
        try:
            self.doing = "read"
            (there,) = store.stat_many([name]).values()
            return None if there is None else there.modified
        finally:
            self.doing = "delete"
            store.delete([name])
