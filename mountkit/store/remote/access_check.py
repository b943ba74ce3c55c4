"""Everything a save will need of a remote, tried in seconds, before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.errors import ConfigurationError
from mountkit.store.base import ObjectMissingError
from mountkit.store.preflight import PROBE_BODY, Preflight

if TYPE_CHECKING:
    from datetime import datetime

    from mountkit.errors import MountkitError
    from mountkit.store.base import Store, StoreFacts
    from mountkit.store.remote.client import Client

# An rclone has to be started first, and both it and an sshd reckon with keys for a while.
SECONDS = 9.0


def check(
    store: Store, client: Client, *, write: bool = True, seconds: float = SECONDS
) -> StoreFacts:
    """Try what a save does, within ``seconds``; see ``Preflight.within``.

    ``client``: What the store asks with. Without ``write`` nothing is written to try.
    """
    return _Trial(store, client, write=write).within(seconds)


class _Trial(Preflight):
    def __init__(self, store: Store, client: Client, *, write: bool) -> None:
        super().__init__(store.source.url, "list", write=write)
        self._store = store
        self._client = client

    def silent(self, seconds: float) -> MountkitError:
        return self._client.silent(seconds, self.doing, "")

    def reach(self) -> tuple[str, str, str]:
        remote = self._client.remote
        if remote.type == "local" and self._store.source.bucket:
            # What is read back may be in this machine's memory alone. file:// names no remote, and
            # asks the disk.
            raise ConfigurationError(
                f"{self._store.source.url} is a directory of this machine: what rclone wrote there "
                "need not be on its disk.",
                hint="Name it as a directory, which is asked of its disk: file:///PATH",
            )
        self._bucket()
        return "", "", f"the remote {remote.name!r} of rclone, of type {remote.type}"

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

    def put(self, name: str) -> None:
        # Reads it back, too.
        self._store.put(name, PROBE_BODY)

    def dated(self, name: str) -> datetime | None:
        self.doing = "read"
        (there,) = self._store.stat_many([name]).values()
        return None if there is None else there.modified

    def delete(self, name: str) -> None:
        self._store.delete([name])
