"""The store, tried by its own part of the doctor, or by what every store can be asked."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from mountkit.doctor import lease_check
from mountkit.doctor.findings import Finding
from mountkit.errors import MountkitError
from mountkit.store import open_store, provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.spec import Source, StoreOptions
    from mountkit.store.base import Store

SECONDS = 10.0
#: About how long one request may go unanswered; the whole is bounded by ``SECONDS`` anyway.
PATIENCE_SECONDS = 9.0
#: By URL scheme, the module whose ``examine`` knows more than ``Store.check`` tells.
PARTS: Mapping[str, str] = MappingProxyType({"s3": "mountkit.doctor.s3.bucket"})


def examine(source: Source, options: StoreOptions, name: str) -> tuple[Finding, ...]:
    """Try the store, below the directory ``name`` where its own part writes."""
    store = open_store(source, options, patience=PATIENCE_SECONDS)
    if source.scheme not in PARTS:
        return by_check(store, name)
    part = import_module(PARTS[source.scheme])
    found: tuple[Finding, ...] = part.examine(store, name, SECONDS)
    return found


def by_check(store: Store, name: str) -> tuple[Finding, ...]:
    """What every store can be asked: whether a save will find all that it needs, and who saves.

    An object whose name begins with ``name`` is written, and deleted again.
    """
    try:
        facts = store.check(seconds=SECONDS)
    except MountkitError as error:
        return (Finding.of("bucket", "bucket", error),)
    detail = f"{facts.url} can be listed, written, read and deleted"
    path = f"{name}-condition"
    found = [
        Finding("bucket", "bucket", "ok", detail),
        lease_check.conditions(store, path),
        lease_check.lease(store),
    ]
    try:
        store.delete([path])
    except MountkitError as error:
        see = f"See it: {provider(store.source.scheme).list_command(store.url(path))}"
        found.append(Finding("leftover", "cleaning up", "warning", error.message, see))
    return tuple(found)
