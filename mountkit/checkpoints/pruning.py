"""Remove old proven checkpoints from outside of a training: what ``mountkit prune`` does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mountkit.checkpoints import catalog, lineage, retention
from mountkit.checkpoints.verification import inside, read_manifest
from mountkit.errors import VerificationError
from mountkit.names import TRAINER_STATE, step_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mountkit.checkpoints.manifest import Manifest
    from mountkit.store.base import Store


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes and what stays.

    ``remove``: The names of those that go, in this order. ``keep``: The names of those that stay,
    the oldest first, and why each does. ``unproven``: The names of directories that are not
    touched, and why each is no proven checkpoint. ``manifests``: Of those that go, by name; None
    for one that was never proven.
    """

    remove: tuple[str, ...]
    keep: Mapping[str, str]
    unproven: Mapping[str, str]
    manifests: Mapping[str, Manifest | None]


def plan(store: Store, keep: int, *, torn: bool = False) -> Plan:
    """Which proven checkpoints go so that the newest ``keep`` stay, by the rules of a training.

    With ``torn`` also those that were never proven, and are older than the newest that is intact:
    nobody resumes from them.

    What the training that saved last does not descend from goes before its own. The newest that is
    intact stays in any case, and the one that its state calls the best. Nobody outside knows from
    which one a training was resumed.

    Raises VerificationError if none of the proven ones is intact, or the state of the newest cannot
    be read: what may not be removed is not known then.
    """
    proven, unproven = catalog.inventory(store)
    if not proven:
        return Plan((), {}, unproven, {})
    newest = catalog.latest(store)
    if newest is None:
        raise VerificationError(
            f"None of the {len(proven)} proven checkpoints below {store.source.url} is intact, so "
            "none is removed.",
            hint=f"See what is wrong with one: mountkit verify {store.source.url}/"
            f"checkpoint-{max(proven)}",
        )
    best = _best(store, newest)
    line = lineage.descent({step: manifest.saved for step, manifest in proven.items()})
    protected = {newest.step} if best is None else {newest.step, best}
    gone = retention.retention(proven, keep, protected, foreign=proven.keys() - {*line})
    left = [
        name
        for name, reason in unproven.items()
        if torn and reason == catalog.NO_MANIFEST and (step_of(name) or 0) < newest.step
    ]
    why = {newest.step: "the newest that is intact"}
    if best is not None:
        why[best] = "the best" if best != newest.step else "the newest that is intact, and the best"
    return Plan(
        (*left, *(f"checkpoint-{step}" for step in gone)),
        {
            f"checkpoint-{step}": why.get(step, f"one of the newest {keep}")
            for step in sorted(proven.keys() - {*gone})
        },
        {name: reason for name, reason in unproven.items() if name not in left},
        {**dict.fromkeys(left), **{f"checkpoint-{step}": proven[step] for step in gone}},
    )


def remove(store: Store, name: str, expected: Manifest | None) -> str:
    """Remove a checkpoint, its manifest first; "", or why it was left alone.

    Only if its manifest is still the one that was read, or there is still none: a training may be
    saving there anew.

    Raises MountkitError if the store cannot be asked, or refuses.
    """
    try:
        found = read_manifest(store, name)
    except VerificationError as error:
        return error.message
    if found is None and expected is not None:
        return "its manifest is gone: somebody is removing it, or saves there anew"
    if found != expected:
        return "it has another manifest by now: it was saved anew"
    retention.remove(store, name)
    return ""


def _best(store: Store, newest: catalog.Proven) -> int | None:
    """The step of the best checkpoint, by the state that lies in the newest one."""
    if TRAINER_STATE not in {entry.path for entry in newest.manifest.files}:
        return None
    path = inside(newest.name, TRAINER_STATE)
    try:
        state = json.loads(store.get(path) or b"")
    except (ValueError, RecursionError):
        state = None
    best = state.get("best_model_checkpoint") if isinstance(state, dict) else state
    if not isinstance(state, dict) or not isinstance(best, str | None):
        raise VerificationError(
            f"{store.url(path)} is no state of a Trainer, so which checkpoint is the best is not "
            "known, and none is removed.",
            hint="Remove by hand what is not needed; see what it holds: "
            f"mountkit verify {newest.url}",
        )
    name = (best or "").rstrip("/").rpartition("/")[2]
    return step_of(name)
