"""What is Google Cloud Storage's own: URLs, variables, and how rclone reaches it."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from mountkit.spec import StoreOptions
from mountkit.store import bucket_url
from mountkit.store.base import RcloneRemote
from mountkit.store.gs import endpoints, errors
from mountkit.store.gs.store import GSStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.spec import Source
    from mountkit.timing import Deadline

OPTIONS = "gcs-"
EXAMPLE = "Give a URL such as gs://my-bucket/run-1."
CONFIGURATION: Mapping[str, str] = MappingProxyType(
    {
        "type": "google cloud storage",
        # Nothing is asked of a bucket but its objects, and none is created.
        "no_check_bucket": "true",
        # Rights are the bucket's: an access list for each object is refused by most buckets.
        "bucket_policy_only": "true",
    }
)


class GSProvider:
    """``gs://``; see :class:`mountkit.store.base.Provider`."""

    variables: ClassVar[re.Pattern[str]] = re.compile(
        r"GOOGLE_.*|GCE_METADATA_.*|NO_GCE_CHECK|CLOUDSDK_.*|STORAGE_EMULATOR_HOST"
    )
    file_variables: ClassVar[tuple[str, ...]] = ("GOOGLE_APPLICATION_CREDENTIALS",)
    credentials: ClassVar[str] = "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth"
    daemon_credentials: ClassVar[str] = "what Google's libraries find"
    rclone_owned: ClassVar[frozenset[str]] = frozenset(
        {f"{OPTIONS}{name}" for name in ("endpoint", "env-auth", "anonymous")}
    )

    def parse(self, url: str) -> Source:
        """``gs://bucket/prefix``."""
        return bucket_url.parse(url, credentials=self.credentials, example=EXAMPLE)

    def refusal_in(self, text: str) -> float | None:
        """By what Google answered with, as rclone repeats it."""
        return errors.refused_in(text)

    def options(self, given: StoreOptions, environment: Mapping[str, str]) -> StoreOptions:
        """Where no endpoint was given, that of an emulator; regions and profiles are S3's."""
        found = given.endpoint_url or environment.get(endpoints.EMULATOR) or None
        return StoreOptions(endpoint_url=endpoints.with_scheme(found))

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
    ) -> GSStore:
        """A bucket, or a place in one."""
        return GSStore(source, options, patience=patience, deadline=deadline)

    def rclone_remote(
        self, source: Source, options: StoreOptions, tag: tuple[str, str]
    ) -> RcloneRemote:
        """Everything about the connection; credentials come from the environment."""
        values = dict(CONFIGURATION)
        anonymous = endpoints.is_anonymous(os.environ)
        values["anonymous" if anonymous else "env_auth"] = "true"
        if options.endpoint_url:
            values["endpoint"] = f"{options.endpoint_url.rstrip('/')}/storage/v1/"
        name, value = tag
        header = ("header-upload", f"X-Goog-Meta-{name}: {value}")
        path = f"{source.bucket}/{source.prefix}".rstrip("/")
        return RcloneRemote(values, path, OPTIONS, (header,))

    def list_command(self, url: str) -> str:
        """With Google's command-line tools."""
        return f"gcloud storage ls {url}"

    def delete_command(self, url: str) -> str:
        """With Google's command-line tools."""
        return f"gcloud storage rm --recursive {url}"
