"""No secret on a command line, in a log, or in a file; the state is private."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import psutil

from support.rig import mode

if TYPE_CHECKING:
    from pathlib import Path

    from support.rig import Bucket, Rig


def holding(secret: bytes, top: Path) -> list[str]:
    """The files below a directory that have the secret in them or in their names."""
    return [
        str(path)
        for path in top.rglob("*")
        if secret in os.fsencode(path) or (path.is_file() and secret in path.read_bytes())
    ]


def command_lines() -> list[str]:
    """Every command line that ``ps`` shows to anybody."""
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


def test_a_secret_is_nowhere_to_be_seen(rig: Rig, bucket: Bucket) -> None:
    secret = rig.server.secret_key
    assert len(secret) >= 16
    gate = rig.gate()
    rig.settings["MOUNTKIT_STALL_TIMEOUT"] = "3"
    source = f"s3://{bucket.name}/run"
    command = rig.light("save:10", "say:saved", "wait:go", "save:20", "say:all", "wait:end")
    job = rig.begin(source, command, *rig.late, *rig.talkative, endpoint=gate.url)
    rig.await_word("saved", job)
    daemon = rig.daemon()
    lines = command_lines()
    assert any(str(rig.target) in line and daemon.cmdline()[0] in line for line in lines)
    assert any("-m mountkit run" in line and str(rig.target) in line for line in lines)
    assert [line for line in lines if secret in line] == []
    told = rig.mountkit("status", "--format", "json")
    # A death, and uploads that fail, are written down as well.
    rig.kill(daemon)
    rig.await_remount()
    rig.say("go")
    rig.await_word("all", job)
    gate.shut()
    rig.say("end")
    answer = job.wait()
    assert answer.code == 75, answer
    gate.open()
    again = rig.run(source, rig.light("exit:0"), endpoint=gate.url, MOUNTKIT_TRACEBACK="1")
    assert again.code == 0, again
    wrong = "wrong" + secret[5:]
    denied = rig.run(source, rig.light(), AWS_SECRET_ACCESS_KEY=wrong, MOUNTKIT_TRACEBACK="1")
    assert denied.code in {77, 78}, denied
    said = [told, answer, again, denied]
    for hidden in (secret, wrong):
        assert [one for one in said if hidden in one.out + one.err] == []
        assert holding(hidden.encode(), rig.work) == []
        assert holding(hidden.encode(), bucket.disk) == []
        assert [line for line in command_lines() if hidden in line] == []
    assert (rig.state / rig_id(rig) / "daemon.log").stat().st_size > 1000


def rig_id(rig: Rig) -> str:
    """The directory of the one mount that was made; a run that was refused has one, too."""
    [log] = rig.state.glob("*/daemon.log")
    return log.parent.name


def test_the_state_is_private(rig: Rig, bucket: Bucket) -> None:
    previous = os.umask(0)
    try:
        # The commands inherit it: nothing may depend on a careful umask.
        assert rig.mount(f"s3://{bucket.name}/run").code == 0
    finally:
        os.umask(previous)
    rig.script("save:10")
    directory = rig.state / rig_id(rig)
    assert mode(rig.state) == 0o700
    assert mode(directory) == 0o700
    modes = {path.name: path.lstat().st_mode for path in directory.rglob("*")}
    files = {name for name, bits in modes.items() if stat.S_ISREG(bits)}
    assert {"record.json", "daemon.log", "supervisor.log"} <= files
    assert {name for name in files if stat.S_IMODE(modes[name]) != 0o600} == set()
    if rig.write_back:
        sockets = {name for name, bits in modes.items() if stat.S_ISSOCK(bits)}
        assert sockets, "the remote control is not a socket in the state directory"
    [cache] = [path for path in rig.cache.iterdir() if path.is_dir()]
    assert mode(cache) == 0o700
    listening = [
        connection
        for process in (rig.daemon(), rig.supervisor())
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == [], "the daemon or its supervisor listens on a TCP port"
    assert rig.umount().code == 0


def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(rig: Rig) -> None:
    answer = rig.run("s3://someone:hunter22@bucket/run", rig.light("say:ran"))
    assert answer.code == 2, answer
    assert "hunter22" not in answer.err
    assert not (rig.gates / "started").exists()
