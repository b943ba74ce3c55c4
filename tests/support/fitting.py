"""Which tests make sense for which backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit import backends

if TYPE_CHECKING:
    import pytest


def leave_out_what_does_not_fit(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a backend does not do by its nature: keep files that were closed, or not."""
    left_out = [item for item in items if not _fits(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _fits(item)]


def _fits(item: pytest.Item) -> bool:
    backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")
    if backend is None:
        return True
    caches = backends.load(backend).write_back
    if item.get_closest_marker("cached"):
        return caches
    return not (item.get_closest_marker("uncached") and caches)
