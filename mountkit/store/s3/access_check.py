"""Everything a save will need of a bucket, tried in seconds, before the first step."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    PermissionDeniedError,
)
from mountkit.names import PROBE_NAME
from mountkit.store.base import StoreFacts
from mountkit.store.preflight import AGAIN_SECONDS, PROBE_BODY, Preflight
from mountkit.store.s3 import error_codes, errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import TypeVar

    from mountkit.store.s3.client import Connection

    Answer = TypeVar("Answer")


def check(
    store: Connection,
    *,
    write: bool = True,
    seconds: float = 6.0,
    pause: float = AGAIN_SECONDS,
) -> StoreFacts:
    """Try every request a save will make, and say what is wrong with the first that fails.

    Parameters
    ----------
    store:
        Where checkpoints will go.
    write:
        Whether to write and delete a throw-away object as well.
    seconds:
        After how long without an answer to give up, whatever the store does or does not do.
    pause:
        After how many seconds to try once more, where the store refuses in a way that may pass. A
        key that is plainly wrong is never tried again.

    Raises
    ------
    ConfigurationError
        No credentials, no such profile or bucket, a wrong region, endpoint or clock.
    PermissionDeniedError
        The credentials are refused, or may not list, write, read or delete.
    MountUnavailableError
        The store cannot be reached, or not in time; or this machine is too busy to ask it.
    """
    return _Trial(store, write=write).within(seconds, pause)


class _Trial(Preflight):
    def __init__(self, store: Connection, *, write: bool) -> None:
        super().__init__(store.source.url, "find credentials for")
        self._store = store
        self._write = write

    def silent(self, seconds: float) -> MountkitError:
        endpoint = self._store.options.endpoint_url
        at = f" at {errors.safe_url(endpoint)}" if endpoint else ""
        return MountUnavailableError(
            f"The store{at} gave no answer in {seconds:g} s when mountkit tried to {self.doing} "
            f"{self._url}.",
            hint=f"Check the network, then: mountkit doctor {self._url}",
        )

    def run(self) -> StoreFacts:
        store = self._store
        with store.translated("connect to"):
            credentials = store.credentials()
            client = store.client(quick=True)
        asked = store.session().get_config_variable("region")
        region = self._list() or asked or client.meta.region_name
        if asked and region != asked and not store.options.endpoint_url:
            # boto3 follows the bucket to its region, but the daemons that mount it do not.
            raise ConfigurationError(
                f"The bucket of {store.source.url} is in region {region}, not in {asked}.",
                hint=f"Name its region: --region {region}",
            )
        dated = self._write_and_delete() if self._write else None
        return StoreFacts(
            url=store.source.url,
            endpoint_url=client.meta.endpoint_url,
            region=region,
            credentials=credentials.method or "unknown",
            written=self._write,
            seconds=self.seconds,
            dated=dated,
        )

    def _list(self) -> str:
        """Settle that the bucket is there and may be listed; its region, if the store tells."""
        store = self._store
        self.doing = "list"
        with store.translated("list"):
            answer = store.client(quick=True).list_objects_v2(
                Bucket=store.source.bucket,
                Prefix=f"{store.source.prefix}/" if store.source.prefix else "",
                MaxKeys=1,
            )
        return str(answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", ""))

    def _write_and_delete(self) -> datetime | None:
        """When the store dated what was written, if it does."""
        client = self._store.client(quick=True)
        bucket = self._store.source.bucket
        name = f"{PROBE_NAME}{secrets.token_hex(8)}"
        key = self._store.source.key(name)
        self._try("write", name, lambda: client.put_object(Bucket=bucket, Key=key, Body=PROBE_BODY))
        try:
            found = self._try("read", name, lambda: client.head_object(Bucket=bucket, Key=key))
            # A listing may be finer than a header, which has whole seconds, and others are listed.
            listed = self._try(
                "list", name, lambda: client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            )
            newest = next(iter(listed.get("Contents", ())), found)
            return newest.get("LastModified")
        finally:
            self._try("delete", name, lambda: client.delete_object(Bucket=bucket, Key=key))

    def _try(self, doing: str, name: str, request: Callable[[], Answer]) -> Answer:
        self.doing = doing
        try:
            with self._store.translated(doing, name):
                return request()
        except (MountUnavailableError, PermissionDeniedError) as error:
            code = errors.error_code(error.__cause__)
            refused = isinstance(error, PermissionDeniedError)
            # A store that serves read-only answers a write with "internal error", but lists well.
            if not refused and code != "InternalError":
                raise
            raise _denied(error, doing, self._store.url(name)) from error.__cause__


def _denied(error: MountkitError, doing: str, url: str) -> PermissionDeniedError:
    prefix = url.rpartition("/")[0]
    right = error_codes.PERMISSIONS[doing]
    left = f" The object is left behind: {url}" if doing == "delete" else ""
    found = PermissionDeniedError(
        f"{error.message} {prefix} can be listed, but {right} does not work there.{left}",
        hint=f"Allow {right} on {prefix}/*, or use a store that is not read-only, then: "
        f"mountkit doctor {prefix}",
    )
    found.may_pass = error.may_pass
    return found
