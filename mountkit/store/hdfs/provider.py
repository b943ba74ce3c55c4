"""What is HDFS's own: URLs, its two addresses, the user, and how rclone reaches it."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from mountkit.errors import UsageError
from mountkit.spec import Source, StoreOptions
from mountkit.store import bucket_url
from mountkit.store.base import RcloneRemote
from mountkit.store.hdfs import addresses, errors
from mountkit.store.hdfs.store import HdfsStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.timing import Deadline

OPTIONS = "hdfs-"
EXAMPLE = "Give a URL such as hdfs://namenode:8020/user/me/run-1."


class HdfsProvider:
    """``hdfs://``; see :class:`mountkit.store.base.Provider`."""

    variables: ClassVar[re.Pattern[str]] = re.compile(r"HADOOP_USER_NAME|KRB5_CONFIG|KRB5CCNAME")
    file_variables: ClassVar[tuple[str, ...]] = ("KRB5_CONFIG",)
    credentials: ClassVar[str] = addresses.USER
    daemon_credentials: ClassVar[str] = addresses.USER
    rclone_owned: ClassVar[frozenset[str]] = frozenset({f"{OPTIONS}namenode", f"{OPTIONS}username"})

    def parse(self, url: str) -> Source:
        """``hdfs://namenode:port/path``; without a port it is 8020."""
        source = bucket_url.parse(url, credentials=self.credentials, example=EXAMPLE)
        host, colon, port = source.bucket.rpartition(":")
        if not colon:
            host, port = source.bucket, str(addresses.RPC_PORT)
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or not host.strip():
            raise UsageError(f"{url!r} names no port of a name node.", hint=EXAMPLE)
        return Source(source.scheme, f"{host}:{int(port)}", source.prefix)

    def refusal_in(self, text: str) -> float | None:
        """By the exception of the name node, as rclone repeats it."""
        return errors.refused_in(text)

    def options(self, given: StoreOptions, environment: Mapping[str, str]) -> StoreOptions:  # noqa: ARG002
        """The endpoint is WebHDFS's; regions and profiles are S3's."""
        return StoreOptions(endpoint_url=given.endpoint_url or None)

    def environment(self, options: StoreOptions) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing beside the variables."""
        return {}

    def open(
        self,
        source: Source,
        options: StoreOptions,
        *,
        patience: float | None = None,
        deadline: Deadline | None = None,
    ) -> HdfsStore:
        """A file system, or a place in one."""
        return HdfsStore(source, options, patience=patience, deadline=deadline)

    def rclone_remote(
        self,
        source: Source,
        options: StoreOptions,  # noqa: ARG002
        tag: tuple[str, str],  # noqa: ARG002
    ) -> RcloneRemote:
        """By the name node's own protocol. HDFS has no room for a word beside a file."""
        values = {
            "type": "hdfs",
            "namenode": source.bucket,
            "username": addresses.user(os.environ),
        }
        return RcloneRemote(MappingProxyType(values), source.prefix, OPTIONS)

    def list_command(self, url: str) -> str:
        """With Hadoop's command-line tools."""
        return f"hdfs dfs -ls -R {url}"

    def delete_command(self, url: str) -> str:
        """With Hadoop's command-line tools."""
        return f"hdfs dfs -rm -r -skipTrash {url}"
