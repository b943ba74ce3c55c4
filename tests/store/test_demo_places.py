"""The places that the demo plays in: what they hold is judged, damaged, healed and removed."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

import psutil
import pytest

from mountkit.demo.choice import SERVERS, Wish, choose
from mountkit.errors import MountkitError
from mountkit.store import open_store, parse, provider
from support.demo_stores import skip_without
from support.stores import find_rclone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mountkit.demo.places import Place
    from mountkit.demo.servers import Reached
    from mountkit.store.base import Store

FILES = {"model.safetensors": bytes(range(256)) * 300, "deep/er/state.json": b"{}"}
FOUND = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}


def place(wish: Wish, work: Path) -> Place:
    skip_without(wish.store)
    return choose(wish, find_rclone(), os.environ["PATH"])(work, "run-1")


@contextmanager
def asked(reached: Reached) -> Iterator[Store]:
    """The store, as the commands of the demo reach it."""
    with mock.patch.dict(os.environ, reached.environment, clear=True):
        source = parse(reached.url)
        options = provider(source.scheme).options(reached.options, os.environ)
        yield open_store(source, options)


def serving(folder: Path) -> list[int]:
    """Processes with a path below the folder on their command line, as every server has."""
    return [
        each.pid
        for each in psutil.process_iter(["cmdline"])
        if f"{folder}/" in " ".join(each.info["cmdline"] or [])
    ]


def judge(one: Place, checkpoint: str = "checkpoint-3") -> None:
    """One byte is flipped, and flipped back."""
    assert one.digests(checkpoint) == FOUND
    one.flip(f"{checkpoint}/model.safetensors")
    data = bytearray(FILES["model.safetensors"])
    data[len(data) // 2] ^= 0xFF
    flipped = hashlib.sha256(data).hexdigest()
    assert one.digests(checkpoint) == {**FOUND, "model.safetensors": flipped}
    one.flip(f"{checkpoint}/model.safetensors")
    assert one.digests(checkpoint) == FOUND
    with pytest.raises(MountkitError, match="is not there to be damaged"):
        one.flip("checkpoint-3/nothing.bin")


@pytest.mark.parametrize("store", [*SERVERS])
def test_a_store_of_the_demos_own(store: str, tmp_path: Path) -> None:
    one, before = place(Wish(store=store), tmp_path), dict(os.environ)
    with one.reach() as reached:
        assert reached.url.endswith("/run-1")
        with asked(reached) as client:
            for path, data in FILES.items():
                client.put(f"checkpoint-3/{path}", data)
        assert serving(tmp_path)
        shown = " ".join(
            word for each in psutil.process_iter(["cmdline"]) for word in each.info["cmdline"] or []
        )
        assert not [secret for secret in reached.secrets if secret in shown]
        judge(one)
        assert one.remove(broken_off=False) == []
        assert one.digests("checkpoint-3") == {}
    assert serving(tmp_path) == []
    assert dict(os.environ) == before


@pytest.mark.parametrize("store", ["s3", "sftp", "az"])
def test_a_place_of_the_users(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with place(Wish(store=store), tmp_path).reach() as theirs:
        for name, value in theirs.environment.items():
            monkeypatch.setenv(name, value)
        wish = Wish(source=theirs.url, endpoint_url=theirs.options.endpoint_url, keep=True)
        one = choose(wish, find_rclone(), "")(tmp_path, "run-2")
        with asked(theirs) as client:
            client.put("checkpoint-1/model.bin", b"theirs")
        with one.reach() as reached:
            assert reached.url == f"{theirs.url}/run-2"
            # All of them are in the variables but the plain word of an obscured one.
            assert {*theirs.secrets} & {*reached.secrets}
            with asked(reached) as client:
                for path, data in FILES.items():
                    client.put(f"checkpoint-3/{path}", data)
            judge(one)
            assert all(reached.url.partition("://")[2].partition("/")[2] in c for c in one.kept())
            assert one.remove(broken_off=False) == []
        with asked(theirs) as client:
            assert [each.path for each in client.list()] == ["checkpoint-1/model.bin"]
            assert client.directories() == ("checkpoint-1",)
    # The store is away.
    (left,) = one.remove(broken_off=False)
    assert left.startswith(f"{theirs.url}/run-2 stays: ")
    assert one.kept()[1] in left


def test_a_server_that_does_not_come_up(tmp_path: Path) -> None:
    program = tmp_path / "azurite-blob"
    program.write_text("#!/bin/sh\necho EADDRINUSE\nexit 3\n")
    program.chmod(0o755)
    one = choose(Wish(store="az"), find_rclone(), str(tmp_path))(tmp_path, "run-1")
    with pytest.raises(MountkitError, match="exit status 3: EADDRINUSE"), one.reach():
        pass
    program.write_text("#!/no/such/interpreter\n")
    one = choose(Wish(store="az"), find_rclone(), str(tmp_path))(tmp_path, "run-1")
    with pytest.raises(MountkitError, match="azurite-blob cannot be started"), one.reach():
        pass
    assert serving(tmp_path) == []


def test_an_rclone_that_fails(tmp_path: Path) -> None:
    # It serves, and then does not obscure.
    rclone = tmp_path / "rclone"
    rclone.write_text(
        '#!/bin/sh\n[ "$1" = serve ] || { echo no such command >&2; exit 1; }\n'
        "echo listening on 127.0.0.1:9\nexec sleep 60\n"
    )
    rclone.chmod(0o755)
    one = choose(Wish(store="sftp"), str(rclone), "")(tmp_path / "work", "run-1")
    (tmp_path / "work").mkdir()
    with pytest.raises(MountkitError, match="rclone obscure failed: no such command"), one.reach():
        pass
    assert serving(tmp_path) == []
