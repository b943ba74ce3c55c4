"""Everything a save will need of a bucket, tried in seconds, before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.errors import (
    ConfigurationError,
    MountkitError,
    MountUnavailableError,
    PermissionDeniedError,
)
from mountkit.store.preflight import AGAIN_SECONDS, PROBE_BODY, Preflight, denied
from mountkit.store.s3 import error_codes, errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import TypeVar

    from mountkit.store.base import StoreFacts
    from mountkit.store.s3.client import Connection

    Answer = TypeVar("Answer")


def check(
    store: Connection, *, write: bool = True, seconds: float = 6.0, pause: float = AGAIN_SECONDS
) -> StoreFacts:
    """Try every request a save will make, within ``seconds``; see ``Preflight.within``.

    Without ``write`` nothing is written to try. A key that is plainly wrong is never tried again.
    """
    return _Trial(store, write=write).within(seconds, pause)


class _Trial(Preflight):
    def __init__(self, store: Connection, *, write: bool) -> None:
        super().__init__(store.source.url, "find credentials for", write=write)
        self._store = store

    def silent(self, seconds: float) -> MountkitError:
        endpoint = self._store.options.endpoint_url
        at = f" at {errors.safe_url(endpoint)}" if endpoint else ""
        return MountUnavailableError(
            f"The store{at} gave no answer in {seconds:g} s when mountkit tried to {self.doing} "
            f"{self._url}.",
            hint=f"Check the network, then: mountkit doctor {self._url}",
        )

    def reach(self) -> tuple[str, str, str]:
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
        return client.meta.endpoint_url, region, credentials.method or "unknown"

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

    def put(self, name: str) -> None:
        # The same one to the end: what was written is deleted also past a deadline.
        self._client = self._store.client(quick=True)
        bucket, key = self._at(name)
        self._client.put_object(Bucket=bucket, Key=key, Body=PROBE_BODY)

    def dated(self, name: str) -> datetime | None:
        client, (bucket, key) = self._client, self._at(name)
        found = self.attempt("read", name, lambda: client.head_object(Bucket=bucket, Key=key))
        # A listing may be finer than a header, which has whole seconds, and others are listed.
        listed = self.attempt(
            "list", name, lambda: client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        )
        newest = next(iter(listed.get("Contents", ())), found)
        return newest.get("LastModified")

    def delete(self, name: str) -> None:
        bucket, key = self._at(name)
        self._client.delete_object(Bucket=bucket, Key=key)

    def _at(self, name: str) -> tuple[str, str]:
        return self._store.source.bucket, self._store.source.key(name)

    def attempt(self, doing: str, name: str, request: Callable[[], Answer]) -> Answer:
        try:
            with self._store.translated(doing, name):
                return super().attempt(doing, name, request)
        except (MountUnavailableError, PermissionDeniedError) as error:
            code = errors.error_code(error.__cause__)
            refused = isinstance(error, PermissionDeniedError)
            # A store that serves read-only answers a write with "internal error", but lists well.
            if not refused and code != "InternalError":
                raise
            right, url = error_codes.PERMISSIONS[doing], self._store.url(name)
            place = f"on {url.rpartition('/')[0]}/*, or use a store that is not read-only"
            raise denied(error, doing, right, url, place) from error.__cause__
