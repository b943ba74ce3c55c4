"""Run by every Python that ``mountkit run`` starts, directly or not, before its program.

Python imports a module of this name from its path at start. ``mountkit run`` puts this directory
first on that path, so that a script that knows nothing of mountkit can save to a mount that takes
sequential writes only, and has its checkpoints proven while it trains. The module of that name that
would have been imported is imported as well.

A Python that neither writes to such a mount nor trains imports nothing here.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TRAINER = "transformers.trainer"


def _pass_on() -> None:
    """Import the next module of this name, as if this one were not there."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


def _write_sequentially() -> None:
    try:
        from mountkit.writers import startup_hook
    except ModuleNotFoundError as error:
        # A Python of another environment, which does not know of mountkit.
        if error.name != "mountkit":
            raise
        return
    startup_hook.install(os.environ)


class _AtTrainer:
    """Among the finders of modules until Trainer is imported: only then is mountkit imported."""

    def find_spec(self, fullname: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """None, or what the watcher finds that tells mountkit of Trainer."""
        if fullname != TRAINER:
            return None
        sys.meta_path.remove(self)
        watcher = _watcher()
        return None if watcher is None else watcher.find_spec(fullname, path, target)


def _resumes(terms: str) -> bool:
    """Whether a training is to begin with something that only mountkit can give it."""
    import json

    told = json.loads(terms)
    return bool(told.get("resume") or told.get("load_path"))


def _watcher() -> "Any":
    """What attaches mountkit once Trainer is there; None where this Python cannot."""
    try:
        from mountkit.training import attach_hook
    except ImportError as error:
        # A Python of another environment. A training there must not fail for that, but not begin
        # anew either where it is to be resumed.
        if _resumes(os.environ["MOUNTKIT_TRAINER"]):
            sys.stderr.write(
                f"mountkit: the Trainer of {sys.executable} cannot be resumed, as --resume asks "
                f"for: {error}. Install mountkit there, or leave --resume (MOUNTKIT_RESUME) out\n"
            )
            raise SystemExit(78) from error
        sys.stderr.write(
            f"mountkit: the Trainer of {sys.executable} is left alone: {error}; its checkpoints "
            "are proven at the end. To have that while it trains, install mountkit there\n"
        )
        return None
    return attach_hook.install(os.environ)


if os.environ.get("MOUNTKIT_SEQUENTIAL_MOUNT"):
    _write_sequentially()
if os.environ.get("MOUNTKIT_TRAINER"):
    if TRAINER in sys.modules:
        _watcher()
    else:
        sys.meta_path.insert(0, _AtTrainer())
_pass_on()
