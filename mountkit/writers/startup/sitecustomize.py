"""Run by every Python that ``mountkit run`` starts, directly or not, before its program.

Python imports a module of this name from its path at start. ``mountkit run`` puts this directory
first on that path, so that a script that knows nothing of mountkit can save to a mount that takes
sequential writes only. The module of that name that would have been imported is imported as well.
"""

import os
import sys


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


def _install() -> None:
    try:
        from mountkit.writers import startup_hook
    except ModuleNotFoundError as error:
        # A Python of another environment, which does not know of mountkit.
        if error.name != "mountkit":
            raise
        return
    startup_hook.install(os.environ)


_install()
_pass_on()
