"""Saves that a mount for sequential writes alone can take, and that say so when they fail.

On Mountpoint for S3 nothing can be renamed, and a failed upload shows in fsync(2) and close(2)
only. safetensors renames what it wrote, and neither it nor torch looks at what closing says. While
a mount is installed here, what ``safetensors`` and ``torch.save`` write to a path below it is
written from start to end, uploaded before the call returns, and noted with its checksum in the
:class:`~mountkit.state.write_journal.Journal` of the mount. Every other path, and every file
object, goes to the library as ever.
"""

from __future__ import annotations

from mountkit.writers.hooks import install, uninstall

__all__ = ["install", "uninstall"]
