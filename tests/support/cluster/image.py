"""Images without an image builder: programs of this machine, with the libraries they need.

The Python of the tests is not in them: the node mounts it into every container.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# fmt: off
#: What a shell script in a pod may use, and what mountkit and its daemons call.
PROGRAMS = [
    "bash", "cat", "chmod", "cp", "date", "dirname", "env", "false", "fusermount3", "getent",
    "grep", "head", "id", "kill", "ln", "ls", "mkdir", "mount", "mountpoint", "mv", "ps",
    "readlink", "rm", "sed", "sh", "sleep", "stat", "sync", "tail", "test", "tini", "touch", "true",
    "umount", "uname",
]
#: Loaded by name: by Python's modules, by torch, and to look up the names of hosts and users.
LIBRARIES = [
    "libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libm.so.6", "libdl.so.2", "librt.so.1",
    "libpthread.so.0", "libutil.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2",
]
FOLDERS = [
    "tmp", "etc", "root", "var/tmp", "var/lib", "var/log", "run", "proc", "sys", "dev", "mnt",
    "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin",
]
# fmt: on
SEARCHED = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\ntrainer:x:1000:1000::/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\ntrainer:x:1000:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/fuse.conf": "user_allow_other\n",
}


def root_of_programs(
    root: Path, python: Path, others: Iterable[Path], scripts: Mapping[str, str]
) -> None:
    """Lay out a root file system that has the programs, and the scripts in ``/usr/local/bin``.

    It has the libraries, too, of ``python`` and the ``others``, which are mounted into it.
    """
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").chmod(0o1777)
    (root / "var/run").symlink_to("/run")
    (root / "etc/mtab").symlink_to("/proc/self/mounts")
    for name, text in FILES.items():
        (root / name).write_text(text)
    programs = [_program(name) for name in PROGRAMS]
    modules = python.resolve().parent.parent.glob("lib/python3*/lib-dynload/*.so")
    linked = [*programs, python.resolve(), *others]
    known = _known_libraries()
    wanted = [known[name] for name in LIBRARIES if name in known]
    for program in programs:
        _copy(program, root / "usr/bin" / program.name)
    for library in {*wanted, *_libraries([*linked, *modules, *wanted])}:
        _copy(Path(library), root / _below_usr(library))
    for name, text in scripts.items():
        path = root / "usr/local/bin" / name
        path.write_text(text)
        path.chmod(0o755)
    # Without it a machine's own certificates would be asked for where there are none.
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if certificates.exists():
        _copy(certificates, root / "etc/ssl/certs/ca-certificates.crt")


def write_archive(
    path: Path,
    name: str,
    root: Path,
    entrypoint: list[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """A docker-archive of one layer, as ``docker save`` writes it."""
    layer = path.with_suffix(".layer")
    words = ["tar", "--numeric-owner", "--owner=0", "--group=0", "-C", str(root), "-cf", str(layer)]
    subprocess.run([*words, "."], check=True, timeout=120)
    digest = hashlib.sha256()
    with layer.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "created": "2000-01-01T00:00:00Z",
        "config": {
            "Env": [f"{name}={value}" for name, value in {"PATH": SEARCHED, **(env or {})}.items()],
            "Entrypoint": entrypoint,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        "history": [{"created": "2000-01-01T00:00:00Z"}],
    }
    data = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(data).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, config_name, data)
        archive.add(layer, "layer.tar")
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    layer.unlink()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _program(name: str) -> Path:
    # Not a program of a user's own PATH: that one may be a script which leads elsewhere.
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    assert found is not None, (
        f"There is no {name} on this machine. Install the package that has it."
    )
    return Path(found)


def _known_libraries() -> dict[str, str]:
    listed = subprocess.run(
        ["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True, timeout=30
    )
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        match = re.match(r"\s*(\S+) \(libc6,.*\) => (\S+)", line)
        if match:
            found.setdefault(match[1], match[2])
    return found


def _libraries(files: Iterable[Path | str]) -> set[str]:
    """All that the files are linked with, the loader too."""
    words = ["ldd", *map(str, files)]
    # It ends with 1 where one of them is no dynamic program.
    listed = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    found = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE)
    return {path for path in found if _below_usr(path).startswith("usr/lib")}


def _below_usr(path: str) -> str:
    """Where a library lies in the image: /lib is a link into /usr there, and may be none here."""
    relative = path.lstrip("/")
    return relative if relative.startswith("usr/") else f"usr/{relative}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
