"""Take away what a measurement wrote to the bucket, and name what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mountkit.errors import MountkitError
from mountkit.linux.unanswered import within
from mountkit.store import provider

if TYPE_CHECKING:
    from mountkit.store.base import Store

SECONDS = 60.0


def sweep(store: Store, *, broken_off: bool, seconds: float = SECONDS) -> tuple[str, ...]:
    """Delete all there is below the source of a store, in at most ``seconds``.

    ``store``: Its source is the directory that nobody else writes to. ``broken_off``: Whether an
    upload may have been cut short. The parts of one show in no listing, stay, and are paid for.

    Returns the URL of each object that stays, or of the source, and why; empty if nothing does.
    """
    url = store.source.url
    later = f"Try later: {provider(store.source.scheme).delete_command(url)}/"
    try:
        return within(seconds, lambda: _sweep(store, broken_off=broken_off))
    except TimeoutError:
        return (f"{url}: the store took longer than {seconds:g} s to delete it. {later}",)
    except MountkitError as error:
        return (f"{url}: {error.message} {later}",)


def _sweep(store: Store, *, broken_off: bool) -> tuple[str, ...]:
    left = []
    try:
        store.abort_uploads()
    except MountkitError as error:
        # Where every upload came to its end there is nothing to abort.
        if broken_off:
            left.append(f"parts of uploads below {store.source.url}: {error.message}")
    found = [item.path for item in store.list(markers=True)]
    if found:
        store.delete(found)
    left.extend(f"{store.url(item.path)}: it was deleted, and is there" for item in store.list())
    return tuple(left)
