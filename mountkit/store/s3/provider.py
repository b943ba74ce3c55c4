"""What is S3's own: URLs, variables, credentials, and how rclone reaches it."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from mountkit.spec import StoreOptions
from mountkit.store import EXAMPLE, bucket_url
from mountkit.store.base import RcloneRemote
from mountkit.store.s3 import error_codes
from mountkit.store.s3.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.spec import Source
    from mountkit.timing import Deadline

OPTIONS = "s3-"
CONFIGURATION: Mapping[str, str] = MappingProxyType(
    {
        "type": "s3",
        "env_auth": "true",
        "no_check_bucket": "true",
        "chunk_size": "16Mi",
        "upload_cutoff": "64Mi",
        "upload_concurrency": "4",
        # rclone would ask for each object again after its upload; that is what the proof does.
        "no_head": "true",
        # rclone would read each file twice more for an MD5 that only repeats the client's own word.
        "disable_checksum": "true",
    }
)


class S3Provider:
    """``s3://``; see :class:`mountkit.store.base.Provider`."""

    variables: ClassVar[re.Pattern[str]] = re.compile(r"AWS_.*")
    file_variables: ClassVar[tuple[str, ...]] = (
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CA_BUNDLE",
    )
    credentials: ClassVar[str] = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    daemon_credentials: ClassVar[str] = "AWS_* and --profile"
    rclone_owned: ClassVar[frozenset[str]] = frozenset(
        {f"{OPTIONS}endpoint", f"{OPTIONS}env-auth", f"{OPTIONS}provider"}
    )

    def parse(self, url: str) -> Source:
        """``s3://bucket/prefix``."""
        given = f"{self.credentials}, or with --profile."
        return bucket_url.parse(url, credentials=given, example=EXAMPLE)

    def refusal_in(self, text: str) -> float | None:
        """By the code that S3 answered with, as rclone and Mountpoint repeat it."""
        return error_codes.refused_in(text)

    def options(self, given: StoreOptions, environment: Mapping[str, str]) -> StoreOptions:
        """Where nothing else was set, what the command-line tools of AWS take."""
        return StoreOptions(
            endpoint_url=given.endpoint_url
            or environment.get("AWS_ENDPOINT_URL_S3")
            or environment.get("AWS_ENDPOINT_URL")
            or None,
            region=given.region
            or environment.get("AWS_REGION")
            or environment.get("AWS_DEFAULT_REGION")
            or None,
            profile=given.profile or environment.get("AWS_PROFILE") or None,
        )

    def environment(self, options: StoreOptions) -> Mapping[str, str]:
        """The profile, if one was named."""
        return {"AWS_PROFILE": options.profile} if options.profile else {}

    def open(
        self,
        source: Source,
        options: StoreOptions,
        *,
        patience: float | None = None,
        deadline: Deadline | None = None,
    ) -> S3Store:
        """A bucket, or a place in one."""
        return S3Store(source, options, patience=patience, deadline=deadline)

    def rclone_remote(
        self, source: Source, options: StoreOptions, tag: tuple[str, str]
    ) -> RcloneRemote:
        """Everything about the connection; credentials come from the environment."""
        values = dict(CONFIGURATION)
        values["provider"] = "Other" if options.endpoint_url else "AWS"
        if options.endpoint_url:
            values["endpoint"] = options.endpoint_url
            values["force_path_style"] = "true"
        if options.region:
            values["region"] = options.region
        if options.profile:
            values["profile"] = options.profile
        name, value = tag
        # With --metadata-set, rclone would note owner and mode too.
        header = ("header-upload", f"X-Amz-Meta-{name}: {value}")
        path = f"{source.bucket}/{source.prefix}".rstrip("/")
        return RcloneRemote(values, path, OPTIONS, (header,))

    def list_command(self, url: str) -> str:
        """With the command-line tools of AWS."""
        return f"aws s3 ls {url}"

    def delete_command(self, url: str) -> str:
        """With the command-line tools of AWS."""
        return f"aws s3 rm --recursive {url}"
