"""A real Kubernetes of one node: etcd, the API server, the kubelet, containerd, and a network.

All of it runs in namespaces below one process, whose end is the end of everything. The tests come
in through its network namespace; nothing leads into it from outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import psutil

import mountkit
from support.cluster import certificates, image, node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

KUBERNETES = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"]
#: Every program that a cluster needs, and where it comes from.
NEEDED = {
    **dict.fromkeys(
        [*KUBERNETES, "kubectl", "coredns", "pause", "fuse-device-plugin"], ".ci/setup-cluster"
    ),
    "helm4": ".ci/setup-chart",
    "containerd": "apt-get install containerd",
    "runc": "apt-get install runc",
    "tini": "apt-get install tini",
    "versitygw": ".ci/setup --tools",
}
IMAGE = "mountkit.test/trainer:1"
PLUGIN_IMAGE = "mountkit.test/fuse-device-plugin:1"
PACKAGE = Path(mountkit.__file__).resolve().parent.parent
CGROUPS = Path("/sys/fs/cgroup")
START_SECONDS = 120.0
EVERY_SECONDS = 0.3
END_SECONDS = 20.0
# Of some hundred megabytes, on a busy machine.
LOAD_SECONDS = 300.0


def poll(condition: Callable[[], Any], what: str, limit: float) -> Any:
    """Wait until ``condition`` holds. Each look is a program of its own, so they are seldom."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, f"After {limit:.0f} s: not {what}."
        threading.Event().wait(EVERY_SECONDS)
    return found


def missing() -> str:
    """What this machine lacks for a cluster, and how it is had; "" if nothing."""
    if os.geteuid() != 0:
        return "a cluster needs namespaces and cgroups of its own, which only root may make"
    for program, source in NEEDED.items():
        if shutil.which(program) is None:
            return f"there is no {program} on PATH: {source}"
    if not (Path(node.NETWORK_PLUGINS) / "bridge").exists():
        return "there are no network plugins: apt-get install containernetworking-plugins"
    return ""


class RefusedError(AssertionError):
    """A command about the cluster that failed."""


@dataclass(frozen=True)
class Told:
    """How a command about the cluster ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"{' '.join(self.words)}\ncode {self.code}\nout: {self.out}\nerr: {self.err}"


class Cluster:
    """The cluster, as a context manager. ``folder`` is emptied at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self._cgroup = f"mountkit-{os.getpid()}-{time.monotonic_ns()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    # Commands

    def run(
        self,
        *words: str | Path,
        limit: float = 60.0,
        given: str = "",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Told:
        """A program of this machine in the network of the cluster."""
        try:
            ended = subprocess.run(
                self._inside(words),
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                input=given,
                env={**self._environment(), **(env or {})},
                timeout=limit,
            )
        except subprocess.TimeoutExpired as error:
            raise RefusedError(
                f"{' '.join(map(str, words))}: not ended after {limit:.0f} s"
            ) from error
        told = Told(tuple(map(str, words)), ended.returncode, ended.stdout, ended.stderr)
        if check and told.code:
            raise RefusedError(str(told))
        return told

    def start(self, *words: str | Path, out: BinaryIO) -> subprocess.Popen[bytes]:
        """The same, left running. It ends with the tests at the latest."""
        return subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *self._inside(words)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
        )

    def kubectl(self, *words: str, **more: Any) -> Told:
        return self.run("kubectl", *words, **more)

    def helm(self, *words: str | Path, **more: Any) -> Told:
        return self.run("helm4", *words, **more)

    def get(self, *words: str) -> Any:
        """What ``kubectl get`` tells as JSON."""
        return self.kubectl("get", *words, "-o", "json").json

    def apply(self, *objects: Mapping[str, Any]) -> None:
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", given=json.dumps(document))

    def inside_node(self, *words: str, **more: Any) -> Told:
        """A program in the place of the node's own ones."""
        return self.run(
            "nsenter", f"--target={self._init}", "--mount", "--pid", "--", *words, **more
        )

    def kill(self, pod: Mapping[str, Any], container: str) -> None:
        """SIGKILL to all of a container, as the kernel does it when a node has no memory left."""
        [found] = [
            status["containerID"].removeprefix("containerd://")
            for kind in ("containerStatuses", "initContainerStatuses")
            for status in pod["status"].get(kind, [])
            if status["name"] == container
        ]
        killed = self._containerd("tasks", "kill", "--all", "--signal=SIGKILL", found)
        assert killed.code == 0, killed

    def load(self, built: str) -> dict[str, str]:
        """Bring an image of the Docker engine's into the cluster; its values for the chart.

        The tests' Python may lie below /root, into which an ordinary user may look there.
        """
        archive = self.folder / "built.tar"
        name, tag = "mountkit-test/cluster", str(os.getpid())
        opened = f"{name}:{tag}"
        try:
            words = ["--name", self._cgroup, "--user=0", "--network=none", "--entrypoint=chmod"]
            self.run("docker", "run", *words, built, "0755", "/root")
            self.run("docker", "commit", self._cgroup, opened)
            self.run("docker", "save", "--output", archive, opened, limit=LOAD_SECONDS)
            words = ["images", "import", str(archive)]
            assert (imported := self._containerd(*words, limit=LOAD_SECONDS)).code == 0, imported
        finally:
            archive.unlink(missing_ok=True)
            self.run("docker", "rm", "--force", self._cgroup, check=False)
            self.run("docker", "image", "rm", opened, check=False)
        return {"repository": f"docker.io/{name}", "tag": tag}

    def fuse_mounts(self) -> list[str]:
        """Every FUSE mount of any pod, or of the node."""
        found = set()
        for process in self._processes():
            with contextlib.suppress(OSError):
                table = Path(f"/proc/{process.pid}/mountinfo").read_text()
                for line in table.splitlines():
                    fields, _, rest = line.partition(" - ")
                    if rest.startswith("fuse"):
                        found.add(f"{fields.split()[4]} ({' '.join(rest.split()[:2])})")
        return sorted(found)

    # Places

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "pki" / "admin.kubeconfig"

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _inside(self, words: Iterable[str | Path]) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._init}/ns/net", "--", *map(str, words)]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    # Start and end

    def _start(self) -> None:
        self.logs.mkdir(parents=True)
        certificates.make(self.folder / "pki", node.ADDRESS, node.SERVICE)
        self._make_cgroup()
        mounted = self._mounted()
        images = self._images()
        namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        words = [
            "setpriv",
            "--pdeathsig=KILL",
            "unshare",
            *namespaces,
            "--propagation=private",
            "--",
        ]
        program = [sys.executable, str(Path(node.__file__)), str(self.folder), f"/{self._cgroup}"]
        with (self.logs / "node.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*words, *program, *mounted],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._init = self._await(self._first_process, "started its first process")
        self._await(lambda: self._containerd("version").code == 0, "answered: containerd")
        for archive in images:
            imported = self._containerd("images", "import", str(archive))
            assert imported.code == 0, imported
            archive.unlink()
        self._await(lambda: self._answers("get", "--raw", "/readyz"), "ready: the API server")
        self._await(lambda: self._answers("get", "node", "node1"), "registered: the node")
        self.kubectl("wait", "--for=condition=Ready", "node/node1", "--timeout=60s", limit=70)
        self._await(lambda: self._answers("get", "serviceaccount", "default"), "ready: accounts")

    def _end(self) -> None:
        if self._process is not None:
            below = self._processes()
            # The kernel ends all in a PID namespace with its first process.
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(END_SECONDS)
            psutil.wait_procs(below, timeout=END_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)
        poll(self._remove_cgroup, f"removed: the cgroups {self._cgroup}", END_SECONDS)

    def _images(self) -> list[Path]:
        archives = []
        for name, tag in (("pause", node.PAUSE_IMAGE), ("fuse-device-plugin", PLUGIN_IMAGE)):
            root = self.folder / f"{name}-root"
            root.mkdir()
            _copy_program(name, root)
            archives.append(self.folder / f"{name}.tar")
            image.write_archive(archives[-1], tag, root, [f"/{name}"])
        root = self.folder / "trainer"
        daemons = [Path(found) for name in ("mount-s3", "versitygw") if (found := _find(name))]
        scripts = {path.name: f'#!/bin/sh\nexec {path} "$@"\n' for path in daemons}
        beside = Path(sys.executable).parent
        for name in ("python", "python3", "rclone", "torchrun", "accelerate"):
            scripts[name] = f'#!/bin/sh\nexec {beside / name} "$@"\n'
        scripts["mountkit"] = f'#!/bin/sh\nexec {beside / "python"} -m mountkit "$@"\n'
        image.root_of_programs(root, Path(sys.executable), daemons, scripts)
        archives.append(self.folder / "trainer.tar")
        image.write_archive(archives[-1], IMAGE, root, env={"PYTHONPATH": str(PACKAGE)})
        return archives

    def _mounted(self) -> list[str]:
        """Places of this machine that every container has: the tests' Python, the checkout."""
        places = [Path(sys.prefix), Path(sys.base_prefix), PACKAGE]
        places += [Path(found).parent for name in ("mount-s3",) if (found := _find(name))]
        return sorted({str(place.resolve()) for place in places} - {"/usr", "/usr/bin"})

    def _make_cgroup(self) -> None:
        for place in self._cgroups():
            place.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):
                # A new one has none, and nothing can run in it.
                if (place / name).exists() and not (place / name).read_text().strip():
                    (place / name).write_text((place.parent / name).read_text())

            if (place / "cpu.shares").exists():
                # As on a real node, beside what else runs on this machine.
                (place / "cpu.shares").write_text(str(1024 * (os.cpu_count() or 1)))

    def _remove_cgroup(self) -> bool:
        """Whether it is gone: a process that ends stays in its cgroup for a moment."""
        for place in self._cgroups():
            for folder, _, _ in os.walk(place, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not any(place.exists() for place in self._cgroups())

    def _cgroups(self) -> list[Path]:
        """This cluster's place in each hierarchy of the machine."""
        if (CGROUPS / "cgroup.controllers").exists():
            return [CGROUPS / self._cgroup]
        tops = [place for place in CGROUPS.iterdir() if (place / "cgroup.procs").exists()]
        # cpu and cpuacct may be two names of one.
        return sorted({place.resolve() / self._cgroup for place in tops})

    def _first_process(self) -> int:
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children():
                return child.pid
        return 0

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def _containerd(self, *words: str, limit: float = 60.0) -> Told:
        line = ["ctr", "--address=/run/containerd/containerd.sock", "--namespace=k8s.io", *words]
        return self.inside_node(*line, check=False, limit=limit)

    def _answers(self, *words: str) -> bool:
        return self.kubectl(*words, check=False, limit=10).code == 0

    def _await(self, condition: Callable[[], Any], what: str) -> Any:
        def looked() -> Any:
            assert self._process is not None
            assert self._process.poll() is None, f"The node ended: {self.log('node')}"
            return condition()

        try:
            return poll(looked, what, START_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._tails()}") from None

    def _tails(self) -> str:
        """The end of each program's log."""
        found = [f"{path.name}:\n{_tail(path)}" for path in sorted(self.logs.glob("*.log"))]
        return "\n".join(found)


def _tail(path: Path, lines: int = 8) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _find(name: str) -> str | None:
    return shutil.which(name)


def _copy_program(name: str, folder: Path) -> None:
    found = shutil.which(name)
    assert found is not None
    shutil.copy(found, folder / name)
