"""Removes directory trees in every way that Python has; ``python removing.py MOUNT LOCAL``.

Prints one JSON object: by the name of each way, what it raised, "" if nothing, and "left" after
that if anything of the tree stayed.
"""
# What is tried here are the very calls of os, one by one.
# ruff: noqa: PTH106, PTH107, PTH118

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

FILES = ("a/b/file", "a/file", "c/file", "last")


def make(top: Path) -> Path:
    """A tree with files, and with a directory in which there never was one."""
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "c" / "empty").mkdir()
    return top


def told(top: Path) -> None:
    """With a function that hears of every problem."""
    problems: list[object] = []
    if sys.version_info >= (3, 12):
        shutil.rmtree(top, onexc=lambda *what: problems.append(what))
    else:
        shutil.rmtree(top, onerror=lambda *what: problems.append(what))
    if problems:
        raise RuntimeError(str(problems))


def walk(top: Path) -> None:
    """As the documentation of os.walk shows it."""
    for place, folders, names in os.walk(top, topdown=False):
        for name in names:
            os.remove(os.path.join(place, name))
        for name in folders:
            os.rmdir(os.path.join(place, name))
    os.rmdir(top)


def by_path(top: Path) -> None:
    for path in sorted(top.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    top.rmdir()


def parents(top: Path) -> None:
    shutil.rmtree(top, ignore_errors=True)
    (top / "x" / "y").mkdir(parents=True)
    (top / "x" / "y" / "file").write_text("y")
    (top / "x" / "y" / "file").unlink()
    os.removedirs(top / "x" / "y")


def relative(top: Path) -> None:
    before = Path.cwd()
    os.chdir(top.parent)
    try:
        shutil.rmtree(top.name)
    finally:
        os.chdir(before)


def linked(top: Path) -> None:
    link = Path(sys.argv[2]) / "link"
    link.symlink_to(top.parent)
    shutil.rmtree(link / top.name)


def from_a_directory(top: Path) -> None:
    descriptor = os.open(top.parent, os.O_RDONLY)
    try:
        # dir_fd of rmtree is new in Python 3.11.
        more = {"dir_fd": descriptor} if sys.version_info >= (3, 11) else {}
        shutil.rmtree(top.name if more else top, **more)
    finally:
        os.close(descriptor)


def moved_away(top: Path) -> None:
    shutil.move(top, Path(sys.argv[2]) / "moved")
    found = {p.relative_to(Path(sys.argv[2]) / "moved").as_posix() for p in files(sys.argv[2])}
    if not found.issuperset(FILES):
        raise RuntimeError(str(found))


def files(top: str) -> list[Path]:
    return [path for path in (Path(top) / "moved").rglob("*") if path.is_file()]


def at_once(top: Path) -> None:
    """Threads that remove the same tree: each meets what another was quicker with."""
    wrong: list[OSError] = []

    def work() -> None:
        while top.exists():
            try:
                shutil.rmtree(top)
            except FileNotFoundError:
                continue
            except OSError as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def in_a_child(method: str, top: Path) -> None:
    child = multiprocessing.get_context(method).Process(target=shutil.rmtree, args=(top,))
    child.start()
    child.join(60)
    if child.exitcode:
        raise RuntimeError(f"exit code {child.exitcode}")


def temporary(top: Path) -> None:
    with tempfile.TemporaryDirectory(dir=top) as folder:
        make(Path(folder))
    shutil.rmtree(top)


WAYS = {
    "rmtree": shutil.rmtree,
    "text": lambda top: shutil.rmtree(f"{top}/"),
    "bytes": lambda top: shutil.rmtree(os.fsencode(top)),
    "careless": lambda top: shutil.rmtree(top, ignore_errors=True),
    "told": told,
    "walk": walk,
    "path": by_path,
    "parents": parents,
    "relative": relative,
    "linked": linked,
    "from a directory": from_a_directory,
    "moved away": moved_away,
    "at once": at_once,
    "fork": lambda top: in_a_child("fork", top),
    "spawn": lambda top: in_a_child("spawn", top),
    "temporary": temporary,
}


def refusals(top: Path) -> dict[str, str]:
    """What is an error on every disk is one here."""
    (top / "full").mkdir(parents=True)
    (top / "full" / "kept").write_text("kept")
    (top / "once").mkdir()
    (top / "once" / "file").write_text("once")
    shutil.rmtree(top / "once")
    return {
        "never": attempt(os.rmdir, top / "never"),
        "never, a tree": attempt(shutil.rmtree, top / "never"),
        "twice": attempt(os.rmdir, top / "once"),
        "full": attempt(os.rmdir, top / "full"),
        "a file": attempt(os.rmdir, top / "full" / "kept"),
    }


def attempt(way: object, top: Path) -> str:
    try:
        way(top)
    except OSError as error:
        return type(error).__name__
    except RuntimeError as error:
        return str(error)
    return ""


def main() -> None:
    mount = Path(sys.argv[1])
    found = {}
    for name, way in WAYS.items():
        top = make(mount / name)
        found[name] = attempt(way, top)
        with contextlib.suppress(FileNotFoundError):
            found[name] += " left" if any(top.rglob("*")) else ""
    print(json.dumps({"ways": found, "refusals": refusals(mount / "refused")}))


if __name__ == "__main__":
    main()
