"""Whether the kernel lets this process, through fusermount3, mount at all."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
# Where several security modules are loaded, the first file is not always AppArmor's.
_PROFILES = (Path("/proc/self/attr/apparmor/current"), Path("/proc/self/attr/current"))
_SYS_ADMIN = 1 << 21


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What is in the way of a mount, and what to change."""

    what: str
    hint: str


def obstacle() -> Obstacle | None:
    """What is in the way; None if nothing is known to be.

    To be asked once a mount has failed: a fusermount3 that hands the mount to a service outside
    needs nothing of this, and works.
    """
    profile = next(filter(None, map(_read, _PROFILES)), "")
    return judge(_read(_STATUS), profile, nameless=_nameless())


def judge(status: str, profile: str, *, nameless: int = 0) -> Obstacle | None:
    """What is in the way, by ``/proc/self/status`` and the name of the AppArmor profile.

    ``nameless``: This user's number, where nothing gives it a name; else 0.
    """
    if nameless:
        return Obstacle(
            f"fusermount3 mounts for nobody without a name, and here user {nameless} has none.",
            "Run it as a user that is there, such as root, or add this one to the image: "
            f"echo 'me:x:{nameless}:{nameless}::/tmp:/bin/sh' >>/etc/passwd",
        )
    if not _number(status, "CapEff") & _SYS_ADMIN:
        # fusermount3 has to get it, as a program that root owns and that is set-user-ID.
        if not _number(status, "CapBnd", missing=_SYS_ADMIN) & _SYS_ADMIN:
            return Obstacle(
                "Nothing in this container may mount: CAP_SYS_ADMIN is not among its capabilities.",
                "Start it with: --cap-add SYS_ADMIN (in Kubernetes: securityContext.capabilities)",
            )
        if _number(status, "NoNewPrivs"):
            return Obstacle(
                "fusermount3 may not mount for this user: no program may gain privileges here.",
                "Start the container without --security-opt no-new-privileges (in Kubernetes with "
                "allowPrivilegeEscalation: true), or as root: --user 0",
            )
    name = profile.removesuffix("\n").removesuffix(" (enforce)")
    if profile.strip().endswith("(enforce)"):
        return Obstacle(
            f"AppArmor's profile {name} may deny mounting.",
            "Start the container with: --security-opt apparmor=unconfined",
        )
    return None


def _nameless() -> int:
    user = os.getuid()
    try:
        pwd.getpwuid(user)
    except KeyError:
        return user
    return 0


def _number(status: str, field: str, missing: int = 0) -> int:
    """A line of hexadecimal digits, as all of these are; ``missing`` where a kernel has none."""
    found = re.search(rf"^{field}:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else missing


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        # Without AppArmor the file is missing, or answers EINVAL.
        return ""
