"""How much memory this process may use at all: the container's limit, or the machine's."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")


def limit(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes: the smallest limit of our control group and its parents, or all the memory there is.

    Knows control groups of version 2, and of version 1.
    """
    limits = [_total(meminfo)]
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        place = top / path.lstrip("/")
        # In a container the path may be that of the host; then only the top is there.
        for folder in (place, *place.parents):
            limits.append(_number(_read(folder / name)))
            if folder == top:
                break
    return min(found for found in limits if found > 0)


def _total(meminfo: Path) -> int:
    for line in _read(meminfo).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
