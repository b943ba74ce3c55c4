"""How much memory there is, by control groups as containers have them."""

from __future__ import annotations

import pytest

from mountkit.linux import memory_limit

GIB = 1024**3


@pytest.fixture
def machine(tmp_path):
    """Files as the kernel shows them: 64 GiB, no control group yet."""
    (tmp_path / "meminfo").write_text(f"MemTotal:  {64 * GIB // 1024} kB\nMemFree: 1 kB\n")
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def limit(machine) -> int:
    return memory_limit.limit(machine / "cgroup", machine / "own", machine / "meminfo")


def write(machine, name, text):
    path = machine / "cgroup" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_limit_it_is_the_machines(machine):
    write(machine, "a/b/memory.max", "max\n")
    assert limit(machine) == 64 * GIB


def test_the_smallest_limit_of_the_group_and_its_parents_counts(machine):
    write(machine, "a/b/memory.max", f"{8 * GIB}\n")
    write(machine, "a/memory.max", f"{4 * GIB}\n")
    assert limit(machine) == 4 * GIB


def test_in_a_container_only_the_top_is_there(machine):
    write(machine, "memory.max", f"{2 * GIB}\n")
    assert limit(machine) == 2 * GIB


def test_version_1(machine):
    (machine / "own").write_text("4:cpu:/x\n3:memory:/job\n")
    write(machine, "memory/job/memory.limit_in_bytes", f"{3 * GIB}\n")
    assert limit(machine) == 3 * GIB


def test_version_1_without_a_limit_has_a_very_large_one(machine):
    (machine / "own").write_text("3:memory:/job\n")
    write(machine, "memory/job/memory.limit_in_bytes", "9223372036854771712\n")
    assert limit(machine) == 64 * GIB


def test_this_machine():
    assert memory_limit.limit() > 0
