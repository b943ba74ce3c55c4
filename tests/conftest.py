"""What every suite has: its own environment, skips that can be forbidden, and nothing left over."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.register_assert_rewrite("support")

RUN_VARIABLE = "MOUNTKIT_TEST_RUN"
REQUIRE_VARIABLE = "MOUNTKIT_REQUIRE_TOOLS"
CHAOS_VARIABLE = "MOUNTKIT_TEST_CHAOS"
NOT_NOW = f"a long series of random moments: make chaos, or {CHAOS_VARIABLE}=1"
# What a person sets for a run of the tests; everything else of ours stays outside.
KEPT = {
    REQUIRE_VARIABLE,
    CHAOS_VARIABLE,
    "MOUNTKIT_TEST_BIG",
    "MOUNTKIT_TEST_EVICTIONS",
    "MOUNTKIT_TEST_MANY",
    "MOUNTKIT_TEST_SEED",
    "MOUNTKIT_TEST_SIDECAR",
    "MOUNTKIT_TEST_TRAINER",
}
FOREIGN_PREFIXES = (
    "AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_", "HADOOP_", "MOUNTKIT_", "RCLONE_", "STORAGE_", "XDG_",
)  # fmt: skip
WAIT_SECONDS = 10

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("mountkit", deadline=None)
hypothesis.settings.load_profile("mountkit")

REQUIRE_TOOLS = os.environ.get(REQUIRE_VARIABLE, "") not in {"", "0"}
CHAOS = os.environ.get(CHAOS_VARIABLE, "") not in {"", "0"}
RUN_ID = uuid.uuid4().hex
# Short, because a unix socket's path may have no more than 107 bytes.
HOME = Path(tempfile.mkdtemp(prefix="mk-"))


def pytest_configure(config: pytest.Config) -> None:
    """Leave the user's settings and credentials outside, before any test module is imported."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(remove_home)
    config.add_cleanup(patch.undo)
    for name in os.environ:
        if name.startswith(FOREIGN_PREFIXES) and name not in KEPT:
            patch.delenv(name)
    # Each of some hundred commands would compile the package anew.
    patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    # Few users have it, and without it what nobody reads is still there in the end.
    patch.delenv("PYTHONUNBUFFERED", raising=False)
    for name, value in {
        "HOME": str(HOME),
        "XDG_CACHE_HOME": str(HOME / "cache"),
        "MOUNTKIT_STATE_DIR": str(HOME / "state"),
        # The children inherit it, which is how they are told from other people's processes.
        RUN_VARIABLE: RUN_ID,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HF_HUB_OFFLINE": "1",
    }.items():
        patch.setenv(name, value)


def remove_home() -> None:
    """Remove the temporary home, but never through a mount that is still in it."""
    if not any(target.startswith(str(HOME)) for target in mountkit_mounts()):
        shutil.rmtree(HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the long series to those who ask for them."""
    for item in items:
        if not CHAOS and item.get_closest_marker("chaos"):
            item.add_marker(pytest.mark.skip(reason=NOT_NOW))


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure, where every tool must be there."""
    if not REQUIRE_TOOLS or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    if str(reason).endswith(NOT_NOW):
        # No tool is missing; `make chaos` runs it.
        return
    report.outcome = "failed"
    report.longrepr = f"{reason}\nNo test may be skipped while {REQUIRE_VARIABLE} is set."


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    report = yield
    refuse_skip(report)
    return report


def mountkit_mounts() -> set[str]:
    """Where the kernel has a FUSE mount of mountkit's, read without touching any of them."""
    targets = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, source = rest.split()[:2]
        ours = source.startswith("mountkit-") or source == "mountpoint-s3"
        if kind.startswith("fuse") and ours:
            target = fields.split()[4].encode().decode("unicode_escape")
            targets.add(target.encode("latin-1").decode(errors="surrogateescape"))
    return targets


def own_processes() -> dict[psutil.Process, list[str]]:
    """The daemons and supervisors that this run has started and that still run."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if not words or process.pid == os.getpid():
                continue
            program = Path(words[0]).name
            daemon = program in {"rclone", "mount-s3", "versitygw", "fake-gcs-server", "java"}
            daemon = daemon or any("mountkit" in word for word in words)
            if not daemon or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # A daemon may be started with a bare environment, but its paths still lead here.
            if process.environ().get(RUN_VARIABLE) == RUN_ID or str(HOME) in " ".join(words):
                found[process] = words
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clean up whatever mounts and daemons the tests have left, and fail if there were any."""
    before = mountkit_mounts()
    roots = (str(tmp_path_factory.getbasetemp()), str(HOME))
    yield
    psutil.wait_procs(list(own_processes()), timeout=WAIT_SECONDS)
    processes = own_processes()
    command_lines = {word for words in processes.values() for word in words}
    # Other people's tests may run at the same time: only what is provably ours counts.
    mounts = [
        target
        for target in mountkit_mounts() - before
        if target.startswith(roots) or target in command_lines
    ]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for target in mounts:
        subprocess.run(["fusermount3", "-uz", target], check=False, timeout=WAIT_SECONDS)
    left = [f"the mount {target}" for target in sorted(mounts)]
    left += [f"process {process.pid}: {' '.join(words)}" for process, words in processes.items()]
    assert not left, "The tests left behind: " + "; ".join(left)
