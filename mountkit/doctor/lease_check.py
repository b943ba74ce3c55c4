"""One writer a run: whether the store enforces it, and who has the run now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.checkpoints import lease_object
from mountkit.checkpoints.lease import Standing
from mountkit.doctor.findings import Finding
from mountkit.errors import MountkitError, PermissionDeniedError
from mountkit.store.base import UnsupportedConditionError

if TYPE_CHECKING:
    from mountkit.store.base import Store

TITLES = {"conditions": "conditional writes", "lease": "lease of the run"}
ADVISORY = (
    "that one writer at a time uses a run is advisory: of two that start in the same seconds, one "
    "is stopped some seconds later"
)


def conditions(store: Store, path: str) -> Finding:
    """Write an object that is not there yet, under conditions that hold and that do not.

    What is left there the caller deletes.
    """
    name, title = "conditions", TITLES["conditions"]
    ignored: list[str] = []
    try:
        made = store.put_if(path, b"one", tag=None)
        if store.put_if(path, b"two", tag=None) is not None:
            ignored.append("If-None-Match")
        if store.put_if(path, b"three", tag=lease_object.NO_TAG) is not None:
            ignored.append("If-Match")
        if made is not None and not ignored and store.put_if(path, b"f", tag=made.tag) is None:
            detail = f"The store refuses If-Match also where it holds, so {ADVISORY}."
            return Finding(name, title, "warning", detail)
    except UnsupportedConditionError as error:
        return Finding(name, title, "warning", f"{error.message} So {ADVISORY}.")
    except MountkitError as error:
        return Finding(name, title, "skipped", f"Not tried: {error.message}")
    if ignored:
        detail = f"The store ignores {' and '.join(ignored)}, so {ADVISORY}."
        hint = "Start one run at a time on a prefix"
        return Finding(name, title, "warning", detail, hint)
    return Finding(name, title, "ok", "the store enforces them: one of two writers is refused")


def lease(store: Store) -> Finding:
    """Who has the run now, if anybody has."""
    name, title = "lease", TITLES["lease"]
    try:
        seen = lease_object.look(store)
        lease_object.refuse_unreadable(store, seen)
    except PermissionDeniedError as error:
        return Finding(name, title, "warning", f"A second writer is not seen: {error.message}")
    except MountkitError as error:
        return Finding.of(name, title, error)
    found = seen.lease
    if found is None or found.released:
        last = f"; the last epoch was {found.epoch}" if found is not None else ""
        return Finding(name, title, "ok", f"nobody has it{last}")
    if lease_object.standing(seen) is Standing.FREE:
        detail = f"{found.holder} had it and died; the next run takes it over"
        return Finding(name, title, "ok", detail)
    refusal = lease_object.in_use(store, found)
    return Finding(name, title, "warning", refusal.message, refusal.hint)
