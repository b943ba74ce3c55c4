"""What is rclone's own: the process that is asked, the configuration, and what is believed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from mountkit.backends.base import Binary
from mountkit.backends.rclone.backend import RcloneBackend
from mountkit.checkpoints.attestation import READ_BACK, attest_object
from mountkit.errors import (
    ConfigurationError,
    MountUnavailableError,
    PermissionDeniedError,
    UsageError,
)
from mountkit.names import PROBE_NAME
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.store import checksums, open_store, parse, provider
from mountkit.store.remote import configuration, errors, rcd
from support import remotes
from support.rig import eventually

DATA = os.urandom(300_000)


@pytest.fixture
def nas(place_on):
    return place_on("nas")


@pytest.fixture
def dav(place_on):
    return place_on("dav")


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A remote on this machine's own disk, with a configuration of its own."""
    config = remotes.write_configuration(tmp_path / "rclone.conf", {"disk": {"type": "local"}})
    monkeypatch.setenv("RCLONE_CONFIG", str(config))
    yield open_store(parse(f"rclone://disk/{tmp_path}/data"), StoreOptions())
    rcd.end_all()


class TestWhatIsBelieved:
    def test_a_hash_that_the_server_computes_of_its_bytes(self, nas, tmp_path):
        local = tmp_path / "f"
        local.write_bytes(DATA)
        nas.put("f", DATA)
        (told,) = nas.store.stat("f").checksums
        expected = base64.b64encode(hashlib.sha1(DATA, usedforsecurity=False).digest()).decode()
        assert (told.algorithm, told.value, told.by) == ("sha1", expected, "store")
        verdict = attest_object(nas.store, "f", checksums.digest_file(local), local)
        assert (verdict.ok, verdict.attested_by) == (True, "sha1")
        assert nas.store.stat_many(["f"])["f"].checksums == ()

    def test_no_other_and_nothing_by_the_time_of_a_file(self, dav, tmp_path):
        local = tmp_path / "f"
        local.write_bytes(DATA)
        dav.put("f", DATA)
        before = dav.store.stat("f")
        verdict = attest_object(dav.store, "f", checksums.digest_file(local), local)
        assert (verdict.ok, verdict.attested_by, verdict.etag) == (True, READ_BACK, "")
        # The same size, and the same time.
        times = (dav.disk / "f").stat()
        dav.put("f", DATA[:-1] + bytes([DATA[-1] ^ 1]))
        os.utime(dav.disk / "f", ns=(times.st_atime_ns, times.st_mtime_ns))
        after = dav.store.stat("f")
        assert (after.size, after.modified) == (before.size, before.modified)
        verdict = attest_object(dav.store, "f", checksums.digest_file(local), local)
        assert (verdict.problem, verdict.attested_by) == ("altered", READ_BACK)

    def test_a_file_that_is_cut_off_while_it_is_read_is_no_whole_one(self, disk, tmp_path):
        path = tmp_path / "data" / "f"
        path.parent.mkdir()
        # More than the sockets on the way hold.
        path.write_bytes(bytes(64 * 2**20))
        reading = disk.chunks("f", chunk_bytes=2**20)
        next(reading)
        os.truncate(path, 2**20)
        with pytest.raises((MountUnavailableError, errors.MountkitError)):
            list(reading)


class TestTheProcess:
    def test_nothing_of_it_is_to_be_seen_and_it_has_no_name(self, dav):
        dav.store.put("a", b"1")
        text = configuration.read("dav").text
        secret = next(line for line in text.splitlines() if "pass =" in line).split()[-1]
        running = rcd.of(configuration.read("dav"))
        processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children()]
        assert len(processes) == 2
        for process in processes:
            assert secret not in " ".join(process.cmdline())
            assert secret not in " ".join(process.environ().values())
            assert not [
                each
                for each in process.net_connections("inet")
                if each.status == psutil.CONN_LISTEN
            ]
        (address,) = [word for word in processes[1].cmdline() if "--rc-addr" in word]
        assert not Path(address.partition("unix://")[2]).parent.exists()

    def test_it_ends_with_the_process_however_that_ends(self, disk, tmp_path):
        code = (
            "import os, sys\n"
            "from mountkit.spec import StoreOptions\n"
            "from mountkit.store import open_store, parse\n"
            "from mountkit.store.remote import configuration, rcd\n"
            "open_store(parse(sys.argv[1]), StoreOptions()).put('a', b'1')\n"
            "print(rcd.of(configuration.read('disk')).pid, flush=True)\n"
            "os.kill(os.getpid(), 9)"
        )
        words = [sys.executable, "-c", code, disk.source.url]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        between = int(done.stdout)
        eventually(lambda: not psutil.pid_exists(between), "ended", 20)
        assert not [
            each
            for each in psutil.process_iter(["name", "cmdline", "ppid"])
            if each.info["name"] == "rclone" and each.info["ppid"] == between
        ]

    def test_one_that_somebody_ends_is_started_again(self, disk):
        disk.put("a", b"1")
        running = rcd.of(configuration.read("disk"))
        os.kill(running.pid, signal.SIGKILL)
        # Until then it may still answer.
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert disk.get("a") == b"1"
        assert rcd.of(configuration.read("disk")).pid != running.pid

    def test_a_process_that_is_forked_has_one_of_its_own(self, disk):
        disk.put("a", b"1")
        running = rcd.of(configuration.read("disk"))
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                other = rcd.of(configuration.read("disk"))
                status = 0 if disk.get("a") == b"1" and other.pid != running.pid else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert running.alive
        assert disk.get("a") == b"1"

    def test_a_thread_that_ends_does_not_take_it_along(self, disk):
        thread = threading.Thread(target=lambda: disk.put("a", b"1"))
        thread.start()
        thread.join()
        running = rcd.of(configuration.read("disk"))
        assert disk.get("a") == b"1"
        assert rcd.of(configuration.read("disk")) is running

    def test_what_a_killed_process_left_is_removed_and_no_other(self, tmp_path):
        for name in ("mountkit-rc-old", "mountkit-rc-new", "other-old"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "socket").touch()
        for name in ("mountkit-rc-old", "other-old"):
            os.utime(tmp_path / name, (1, 1))
        rcd._sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"mountkit-rc-new", "other-old"}

    def test_what_was_begun_and_not_ended_is_dropped(self, disk, tmp_path):
        for name in ("d/f.0a1b2c3d.partial", f"d/{PROBE_NAME}00ff", "d/kept.partial", "d/kept"):
            disk.put(name, b"1")
        disk.abort_uploads()
        assert [item.path for item in disk.list()] == ["d/kept", "d/kept.partial"]

    def test_a_directory_goes_with_its_last_file_and_no_other_does(self, disk, tmp_path):
        for name in ("c-1/deep/er/a", "c-1/b", "c-2/a"):
            disk.put(name, b"1")
        (tmp_path / "data" / "c-3").mkdir()
        disk.delete(["c-1/deep/er/a", "c-1/b"])
        assert disk.directories() == ("c-2", "c-3")


@pytest.mark.fault(18, 19)
class TestWhatIsWrong:
    @pytest.mark.parametrize("kind", ["nas", "dav"])
    def test_credentials_that_are_refused(self, place_on, kind):
        place = place_on(kind)
        store = open_store(Source("rclone", "stranger", place.prefix), StoreOptions())
        with pytest.raises(PermissionDeniedError, match="stranger") as refused:
            store.check()
        assert not refused.value.may_pass
        assert "rclone config update" in refused.value.hint

    def test_a_host_that_is_another(self, nas, tmp_path, monkeypatch):
        other = tmp_path / "known_hosts"
        other.write_text(
            Path(configuration.read("nas").sections[""]["known_hosts_file"])
            .read_text()
            .replace("AAAAI", "AAAAI", 1)
        )
        key = (other.parent / "key").with_suffix("")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        port = configuration.read("nas").sections[""]["port"]
        other.write_text(f"[127.0.0.1]:{port} {key.with_suffix('.pub').read_text()}")
        monkeypatch.setenv("RCLONE_CONFIG_NAS_KNOWN_HOSTS_FILE", str(other))
        with pytest.raises(ConfigurationError, match="key"):
            nas.store.check()

    def test_a_directory_of_this_machine_is_asked_of_its_disk(self, disk, tmp_path):
        (tmp_path / "data").mkdir()
        with pytest.raises(ConfigurationError, match="need not be on its disk") as refused:
            disk.check()
        assert "file:///" in refused.value.hint

    def test_a_place_that_is_read_only(self, disk, tmp_path, monkeypatch):
        monkeypatch.setenv("RCLONE_CONFIG_OVER_TYPE", "combine")
        monkeypatch.setenv("RCLONE_CONFIG_OVER_UPSTREAMS", f"data=disk:{tmp_path}/data")
        over = open_store(parse("rclone://over/data"), StoreOptions())
        data = tmp_path / "data"
        data.mkdir()
        if subprocess.run(["chattr", "+i", str(data)], capture_output=True, check=False).returncode:
            data.chmod(stat.S_IRUSR | stat.S_IXUSR)
            if os.access(data, os.W_OK):
                pytest.skip("root may write everywhere, and this file system has no flags")
        try:
            assert over.check(write=False).url == over.source.url
            with pytest.raises(PermissionDeniedError, match="write"):
                over.check()
        finally:
            subprocess.run(["chattr", "-i", str(data)], capture_output=True, check=False)
            data.chmod(0o700)

    def test_a_server_that_says_nothing(self, disk, monkeypatch):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            monkeypatch.setenv("RCLONE_CONFIG_MUTE_TYPE", "webdav")
            monkeypatch.setenv(
                "RCLONE_CONFIG_MUTE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}"
            )
            store = open_store(parse("rclone://mute/run"), StoreOptions())
            with pytest.raises(MountUnavailableError, match="no answer in 2 s"):
                store.check(seconds=2.0)

    def test_a_secret_that_rclone_repeats_is_taken_out(self):
        remote = configuration.Remote("r", {"": {"type": "webdav", "pass": "obscured-word"}})
        for text in (
            "401 obscured-word",
            "it broke: obscured-word",
            "permission denied obscured-word",
        ):
            told = errors.translate(text, remote, doing="list", where="rclone://r/run")
            assert "obscured-word" not in str(told)


class TestConfiguration:
    def test_variables_win_over_the_file_and_make_remotes(self, disk, monkeypatch):
        monkeypatch.setenv("RCLONE_LOCAL_ENCODING", "Slash")
        monkeypatch.setenv("RCLONE_CONFIG_DISK_NOUNC", "true")
        assert dict(configuration.read("disk").sections[""]) == {
            "type": "local",
            "encoding": "Slash",
            "nounc": "true",
        }
        monkeypatch.setenv("RCLONE_CONFIG_MADE_TYPE", "sftp")
        monkeypatch.setenv("RCLONE_SFTP_HOST", "nas.example.org")
        assert configuration.read("made").sections[""]["host"] == "nas.example.org"
        # And a kind of store by its own name.
        found = configuration.read("sftp")
        assert dict(found.sections[""]) == {"type": "sftp", "host": "nas.example.org"}
        # Others may be referred to.
        assert found.sections["disk"]["type"] == "local"

    def test_no_such_remote_and_one_that_stands_for_another(self, disk, tmp_path):
        with pytest.raises(ConfigurationError, match="nobody") as missing:
            configuration.read("nobody")
        assert "rclone listremotes" in missing.value.hint
        remotes.write_configuration(
            tmp_path / "rclone.conf", {"short": {"type": "alias", "remote": "disk:/srv"}}
        )
        with pytest.raises(ConfigurationError, match="disk:/srv"):
            configuration.read("short")

    def test_a_file_that_changes_is_read_anew(self, disk, tmp_path):
        assert configuration.read("disk").type == "local"
        remotes.write_configuration(tmp_path / "rclone.conf", {"disk": {"type": "memory"}})
        assert configuration.read("disk").type == "memory"

    def test_one_that_cannot_be_read(self, disk, tmp_path):
        (tmp_path / "rclone.conf").write_text("RCLONE_ENCRYPT_V0:\nAAAA\n")
        with pytest.raises(ConfigurationError, match="rclone cannot read") as refused:
            configuration.read("disk")
        assert "RCLONE_CONFIG_PASS" in refused.value.hint

    def test_without_rclone(self, disk, monkeypatch):
        monkeypatch.setattr(configuration.sys, "executable", "/nowhere/python")
        monkeypatch.setenv("PATH", "")
        with pytest.raises(MountUnavailableError, match="no rclone on PATH"):
            disk.stat("a")

    def test_what_a_mount_is_told(self, disk):
        remote = provider("rclone").rclone_remote(disk.source, StoreOptions(), ("a", "b"))
        assert remote.path == disk.source.prefix
        assert remote.private()[""]["type"] == "local"
        assert remote.tag == ()

    @pytest.mark.fault(13)
    def test_an_option_about_the_remote_is_no_flag_of_the_daemon(self, disk, tmp_path):
        options = (("local-nounc", "true"), ("transfers", "8"))
        spec = MountSpec(disk.source, "/mnt/a", "rclone", StoreOptions(), "/cache", options)
        made = RcloneBackend().command(spec, Binary("/opt/rclone", (1, 75, 2)), tmp_path, {})
        assert made.argv[2] == f"mountkit:{disk.source.prefix}"
        assert "--transfers=8" in made.argv
        assert not [word for word in made.argv if word.startswith("--local-")]
        assert "nounc = true\n" in made.stdin
        assert made.stdin.startswith("[mountkit]\n")
        # A path from the root of the server is one below the cache.
        control = RcloneBackend().control(spec, tmp_path)
        assert str(control._cache.data) == f"/cache/vfs/mountkit{disk.source.prefix}"

    @pytest.mark.parametrize(
        ("url", "bucket", "prefix"),
        [
            ("rclone://nas/run", "nas", "run"),
            ("rclone://nas:/run/", "nas", "run"),
            ("rclone://my nas//srv//run", "my nas", "/srv/run"),
            ("rclone://nas", "nas", ""),
            ("rclone://nas//", "nas", ""),
        ],
    )
    def test_a_url(self, url, bucket, prefix):
        found = parse(url)
        assert (found.bucket, found.prefix) == (bucket, prefix)
        assert parse(found.url) == found
        assert parse(found.child("a/b").url) == found.child("a/b")

    @pytest.mark.parametrize(
        "url",
        [
            "rclone://",
            "rclone:///run",
            "rclone://:sftp,host=h,pass=hunter22:/run",
            "rclone://sftp,pass=hunter22/run",
            "rclone://nas/../run",
            "rclone://-nas/run",
        ],
    )
    def test_a_url_that_is_none(self, url):
        with pytest.raises(UsageError) as refused:
            parse(url)
        assert "hunter22" not in str(refused.value)
