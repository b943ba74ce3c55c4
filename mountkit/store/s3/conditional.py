"""Writing an object only where another one is, or none: ``If-Match`` and ``If-None-Match``.

A store may enforce both, ignore them, or refuse the request because of them.
"""

from __future__ import annotations

import base64
import hashlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from mountkit.store.base import UnsupportedConditionError, Version
from mountkit.store.s3 import error_codes, errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mountkit.store.s3.client import Connection

HTTP_CONFLICT = 409
# A store that does not know the headers says so with one of these.
_UNSUPPORTED = frozenset(
    {"InvalidArgument", "InvalidRequest", "MethodNotAllowed", "NotImplemented", "Unsupported"}
)


def put_if(store: Connection, path: str, data: bytes, tag: str | None) -> Version | None:
    """Write an object in the place of the one with that tag, or, for None, of none.

    The object as it is then; None if the store has another one.

    Raises UnsupportedConditionError if the store refuses the condition.
    """
    condition: dict[str, str] = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": f'"{tag}"'}
    asked: Any = {
        "Bucket": store.source.bucket,
        "Key": store.source.key(path),
        "Body": data,
        "ContentMD5": md5(data),
        **condition,
    }
    with store.translated("write", path):
        try:
            response = store.client().put_object(**asked)
        except store.client().exceptions.ClientError as error:
            code, status = errors.error_code(error), errors.status_of(error)
            # A conflict: another write of the same object was under way.
            if code in {"PreconditionFailed", "ConditionalRequestConflict"}:
                return None
            if status in {error_codes.HTTP_PRECONDITION, HTTP_CONFLICT}:
                return None
            if tag is not None and code in error_codes.NO_OBJECT:
                return None
            if code in _UNSUPPORTED:
                raise UnsupportedConditionError(
                    f"The store does not write {store.url(path)} under a condition ({code}).",
                    hint=f"See what it enforces: mountkit doctor {store.source.url}",
                ) from error
            raise
    date = date_of(response)
    return Version(data, str(response.get("ETag", "")).strip('"'), date, date)


def md5(data: bytes) -> str:
    """What a store compares with the bytes that arrive."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def date_of(response: Mapping[str, Any]) -> datetime | None:
    """When the store answered, by its own clock; None if it does not tell."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
