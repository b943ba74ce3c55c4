"""Health and metrics over HTTP, asked through real sockets."""

from __future__ import annotations

import errno
import http.client
import json
import math
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from mountkit import events
from mountkit.config.address import Address
from mountkit.errors import ConfigurationError
from mountkit.events import EndpointStarted, MountLost, Remounted, guarded
from mountkit.linux.process import ProcessIdentity
from mountkit.monitoring import endpoint, http_server
from mountkit.monitoring.endpoint import Endpoint, health, readiness
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.proof_stats import Proven
from mountkit.state.record import (
    FAILED,
    MOUNTING,
    RECORD_NAME,
    REPAIRING,
    SERVING,
    MountRecord,
    now,
)
from mountkit.supervision.prober import Answered
from mountkit.timing import wait_until
from support.fakes import FakeMount
from support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Iterator

ANYWHERE = Address("127.0.0.1", 0)
LIMIT = 10.0


def record(word: str, reason: str = "") -> MountRecord:
    spec = MountSpec(Source("s3", "b", "p"), "/mnt", "rclone", StoreOptions(), "/cache")
    return MountRecord(spec, word, now(), ProcessIdentity.mine(), reason=reason)


class TestHealth:
    @pytest.mark.parametrize("word", [MOUNTING, SERVING, REPAIRING])
    def test_well_as_long_as_there_is_hope(self, word):
        assert health(record(word), watched=True) == endpoint.OK

    @pytest.mark.parametrize(
        ("found", "watched", "why"),
        [
            (None, True, "nothing is mounted any more"),
            (record(FAILED, "10 attempts\nfailed"), True, "given up: 10 attempts"),
            (record(SERVING), False, "nobody looks after the mount"),
        ],
    )
    def test_not_any_more_and_one_line_says_why(self, found, watched, why):
        answer = health(found, watched=watched)
        assert answer.status == 503
        assert why in answer.text
        assert answer.text.count("\n") == 1

    def test_a_reason_has_an_end(self):
        assert len(health(record(FAILED, "x" * 9999), watched=True).text) < 400


class TestReadiness:
    def test_it_is_the_mount_that_decides(self):
        assert readiness(record(REPAIRING), serves=True) == endpoint.OK

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (None, "nothing is mounted"),
            (record(SERVING), "does not answer"),
            (record(REPAIRING, "it died"), "repairing: it died"),
            (record(FAILED, "a\nb"), "failed: a"),
            (record(MOUNTING), "mounting"),
        ],
    )
    def test_why_not(self, found, why):
        answer = readiness(found, serves=False)
        assert answer.status == 503
        assert why in answer.text
        assert answer.text.count("\n") == 1


class FakeSupervisor:
    """Knows of a mount what it is told."""

    def __init__(self) -> None:
        self.finished = threading.Event()
        self.last = Answered(serving=True, seconds=0.25, at=time.monotonic())

    def answered(self) -> Answered:
        return self.last

    def lose(self, seconds: float = 0.0) -> None:
        """No answer has come for so long."""
        self.last = Answered(serving=False, seconds=0.25, at=time.monotonic() - seconds)


class Served:
    """An endpoint of a fake mount, and a client."""

    def __init__(self, mount: FakeMount) -> None:
        self.mount = mount
        self.told: list[events.Event] = []
        self.endpoint = Endpoint.open(ANYWHERE, mount, self.told.append)
        self.supervisor = FakeSupervisor()

    def made(self) -> None:
        """The mount is there, and somebody looks after it."""
        self.mount.begin()
        self.endpoint.watch(self.supervisor)

    def ask(self, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
        client = http.client.HTTPConnection("127.0.0.1", self.endpoint.address.port, timeout=LIMIT)
        try:
            client.request(method, path)
            answer = client.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read().decode(), headers
        finally:
            client.close()

    def metrics(self) -> Scrape:
        status, text, _ = self.ask("/metrics")
        assert status == 200
        return Scrape(text)


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    server = Served(FakeMount(tmp_path))
    yield server
    server.endpoint.close()


class TestPaths:
    def test_while_the_mount_is_being_made(self, served):
        assert served.ask("/healthz")[0] == 200
        status, text, _ = served.ask("/readyz")
        assert (status, text) == (503, "the mount is being made\n")
        assert served.metrics().value("mountkit_mount_up") == 0

    def test_while_it_serves(self, served):
        served.made()
        assert served.ask("/healthz")[:2] == (200, "ok\n")
        assert served.ask("/readyz")[:2] == (200, "ok\n")
        assert served.metrics().value("mountkit_mount_up") == 1
        assert served.metrics().value("mountkit_mount_given_up") == 0

    def test_while_it_does_not(self, served):
        served.made()
        served.supervisor.lose()
        assert served.ask("/healthz")[0] == 200
        assert served.ask("/readyz")[:2] == (503, "the mount does not answer\n")
        assert served.metrics().value("mountkit_mount_up") == 0

    def test_when_it_is_given_up(self, served):
        served.made()
        given_up = served.mount.record().change(FAILED, reason="10 attempts failed")
        served.mount.directory.write(given_up)
        status, text, _ = served.ask("/healthz")
        assert status == 503
        assert "10 attempts failed" in text
        assert served.metrics().value("mountkit_mount_given_up") == 1

    def test_when_nobody_looks_after_it(self, served):
        served.made()
        served.supervisor.finished.set()
        assert served.ask("/healthz")[0] == 503

    def test_when_it_is_unmounted_from_outside(self, served):
        served.made()
        served.mount.directory.clear()
        served.supervisor.lose()
        assert served.ask("/healthz")[:2] == (503, "nothing is mounted any more\n")
        assert served.ask("/readyz")[:2] == (503, "nothing is mounted\n")
        unproven = served.metrics().value("mountkit_unproven_bytes")
        assert math.isnan(unproven), "nobody can tell"

    @pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz/x", "/../metrics", "/%2e", "//"])
    def test_anything_else_is_not_there(self, served, path):
        status, text, _ = served.ask(path)
        assert status == 404
        assert "/healthz, /readyz, /metrics" in text

    def test_a_question_mark_changes_nothing(self, served):
        served.made()
        assert served.ask("/healthz?verbose=1")[0] == 200

    def test_a_record_that_cannot_be_read_is_an_answer_too(self, served):
        served.made()
        (served.mount.directory.path / RECORD_NAME).write_text("{")
        status, text, _ = served.ask("/healthz")
        assert status == 503
        assert "cannot be read" in text


class TestMethods:
    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/none"])
    def test_head_is_get_without_the_body(self, served, path):
        served.made()
        got, head = served.ask(path), served.ask(path, "HEAD")
        assert head[0] == got[0]
        assert head[1] == ""
        for name in ("content-type", "server", "cache-control"):
            assert head[2][name] == got[2][name]

    def test_head_has_no_body_on_the_wire(self, served):
        with socket.create_connection(("127.0.0.1", served.endpoint.address.port)) as client:
            client.settimeout(LIMIT)
            client.sendall(b"HEAD /healthz HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(1000), b""))
        assert answer.endswith(b"\r\n\r\n")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_nothing_can_be_changed(self, served, method):
        status, _, headers = served.ask("/healthz", method)
        assert status == 405
        assert headers["allow"] == "GET, HEAD"

    def test_the_kind_of_text_is_told(self, served):
        assert served.ask("/metrics")[2]["content-type"].startswith("text/plain; version=0.0.4")
        assert served.ask("/healthz")[2]["content-type"].startswith("text/plain")

    def test_the_version_of_python_is_not(self, served):
        assert "ython" not in json.dumps(served.ask("/metrics")[2])


class TestMetrics:
    def test_remounts_are_counted_by_what_the_mount_was_lost_by(self, served):
        served.made()
        heard = []
        tell = served.endpoint.counting(heard.append)
        story = [
            MountLost("it died", "died"),
            Remounted("it died", 1.0, "died"),
            MountLost("it is silent", "hung"),
            # The first try failed; by then the daemon was dead as well.
            Remounted("it is silent", 9.0, "died"),
            MountLost("it died", "died"),
        ]
        for event in story:
            tell(event)
        assert heard == story
        counted = served.metrics()
        assert counted.value("mountkit_remounts_total", reason="died") == 1
        assert counted.value("mountkit_remounts_total", reason="hung") == 1
        assert counted.value("mountkit_remounts_total", reason="unmounted") == 0

    def test_the_proofs_of_another_process(self, served):
        served.made()
        name = "mountkit_checkpoint_verifications_total"
        found = served.metrics()
        assert [found.value(name, result=how) for how in ("proven", "failed")] == [0, 0]
        served.mount.directory.proof_stats.proved(Proven("checkpoint-3", 3, "2024-01-01T00:00:00Z"))
        served.mount.directory.proof_stats.failed("checkpoint-6 is not proven")
        served.mount.directory.proof_stats.failed("checkpoint-6 is not proven")
        found = served.metrics()
        assert [found.value(name, result=how) for how in ("proven", "failed")] == [1, 2]
        last = found.value("mountkit_checkpoint_last_proven_timestamp_seconds")
        assert last == 1704067200

    def test_bytes_that_no_proof_covers(self, served):
        served.made()
        served.mount.write("checkpoint-3/model", b"12345", dirty=True)
        assert served.metrics().value("mountkit_unproven_bytes") == 5
        served.mount.upload("checkpoint-3/model")
        assert served.metrics().value("mountkit_unproven_bytes") == 5
        served.mount.directory.proof_stats.proved(Proven("checkpoint-3", 3, now()))
        assert served.metrics().value("mountkit_unproven_bytes") == 0

    def test_no_path_and_no_step_is_told(self, served):
        served.made()
        served.mount.write("secret-place/checkpoint-777/model", b"12345", dirty=True)
        served.mount.directory.proof_stats.failed("secret-place/checkpoint-777 is not proven")
        text = served.ask("/metrics")[1]
        assert "secret-place" not in text
        assert "checkpoint-777" not in text
        assert served.mount.path not in text


class TestAnswers:
    def test_how_long_the_last_one_took(self, served):
        served.made()
        assert served.metrics().value("mountkit_probe_duration_seconds") == 0.25

    def test_or_how_long_none_has_come(self, served):
        served.made()
        served.supervisor.lose(100.0)
        assert served.metrics().value("mountkit_probe_duration_seconds") >= 100.0

    def test_no_request_asks_the_mount_or_starts_a_process(self, served, monkeypatch):
        served.made()
        monkeypatch.setattr(FakeMount, "serving", lambda _: pytest.fail("the mount is asked"))
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))
        for path in ("/healthz", "/readyz", "/metrics"):
            assert served.ask(path)[0] == 200


class TestClients:
    def connect(self, served: Served) -> socket.socket:
        place = ("127.0.0.1", served.endpoint.address.port)
        return socket.create_connection(place, timeout=LIMIT)

    def test_one_that_says_nothing_is_sent_away(self, served, monkeypatch):
        assert 0 < http_server._Handler.timeout <= 10
        monkeypatch.setattr(http_server._Handler, "timeout", 0.05)
        with self.connect(served) as silent:
            assert silent.recv(1) == b""

    def test_those_who_say_nothing_do_not_take_all_places_for_long(self, served, monkeypatch):
        served.made()
        monkeypatch.setattr(http_server._Handler, "timeout", 0.2)
        clients = [self.connect(served) for _ in range(http_server.MOST_AT_ONCE + 4)]
        try:
            deadline = time.monotonic() + LIMIT
            while True:
                try:
                    assert served.ask("/healthz")[0] == 200
                    break
                except (ConnectionError, http.client.BadStatusLine):
                    assert time.monotonic() < deadline
        finally:
            for client in clients:
                client.close()

    def test_one_that_leaves_early_leaves_no_trace(self, served, capfd, caplog, monkeypatch):
        served.made()
        asked, left = threading.Event(), threading.Event()

        def answered() -> Answered:
            asked.set()
            assert left.wait(LIMIT)
            return served.supervisor.last

        monkeypatch.setattr(served.supervisor, "answered", answered)
        with self.connect(served) as hasty:
            # With no time to linger, closing resets the connection.
            hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            hasty.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert asked.wait(LIMIT)
        left.set()
        while served.endpoint._server._places._value < http_server.MOST_AT_ONCE:
            time.sleep(0.01)
        assert served.ask("/healthz")[0] == 200
        assert capfd.readouterr() == ("", "")
        assert caplog.text == ""


class TestListening:
    def test_it_says_where(self, served):
        assert served.told == [EndpointStarted(f"http://127.0.0.1:{served.endpoint.address.port}")]

    def test_a_port_in_use_is_said_and_how_to_find_who_has_it(self, served, tmp_path):
        port = served.endpoint.address.port
        with pytest.raises(ConfigurationError) as caught:
            Endpoint.open(Address("127.0.0.1", port), served.mount, events.silent)
        assert f"127.0.0.1:{port}" in caught.value.message
        assert "Address already in use" in caught.value.message
        assert f"sport = :{port}" in caught.value.hint
        assert caught.value.exit_code == 78

    @pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
    def test_an_address_that_is_not_this_machines(self, tmp_path, host):
        with pytest.raises(ConfigurationError, match=host):
            Endpoint.open(Address(host, 0), FakeMount(tmp_path), events.silent)

    def test_closed_nobody_listens(self, served):
        port = served.endpoint.address.port
        served.endpoint.close()
        served.endpoint.close()
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        Endpoint.open(Address("127.0.0.1", port), served.mount, events.silent).close()

    def test_nobody_listens_for_one_who_cannot_be_told(self, tmp_path):
        ports = []

        def tell(event: events.Event) -> None:
            ports.append(int(event.url.rpartition(":")[2]))
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            Endpoint.open(ANYWHERE, FakeMount(tmp_path), tell)
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", ports[0])) == errno.ECONNREFUSED

    def test_a_newer_kind_of_address(self, tmp_path):
        try:
            server = Endpoint.open(Address("::1", 0), FakeMount(tmp_path), events.silent)
        except ConfigurationError:
            pytest.skip("this machine has no IPv6")
        try:
            with socket.create_connection(("::1", server.address.port), timeout=LIMIT) as client:
                client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.0 200")
        finally:
            server.close()

    def test_the_commands_it_starts_do_not_hold_the_port(self, served):
        assert not served.endpoint._server.socket.get_inheritable()


def test_a_bug_is_logged_and_does_not_end_the_server(served, caplog):
    served.made()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeMount, "record", lambda _: 1 / 0)
        assert served.ask("/healthz")[:2] == (500, "ZeroDivisionError: division by zero\n")
    assert "could not be answered" in caplog.text
    assert served.ask("/healthz")[0] == 200


class TestAServerThatFails:
    def test_it_is_told_and_goes_on(self, served, caplog):
        def fail() -> None:
            del served.endpoint._server.service_actions
            raise ValueError("file descriptor cannot be a negative integer (-1)")

        served.endpoint._server.service_actions = fail
        until(lambda: len(served.told) > 1)
        (told,) = served.told[1:]
        assert "failed, and it goes on" in told.reason
        assert "ValueError: file descriptor" in told.reason
        assert f"mountkit status {served.mount.path}" in told.reason
        assert "Traceback" in caplog.text
        assert served.ask("/healthz")[0] == 200

    def test_one_that_fails_each_time_is_given_up_aloud(self, served, monkeypatch):
        monkeypatch.setattr(endpoint, "SERVE_PAUSE_SECONDS", 0.0)
        served.endpoint._server.service_actions = lambda: 1 / 0
        until(lambda: not served.endpoint._thread.is_alive())
        assert len(served.told) == 1 + endpoint.SERVE_TRIES
        assert "nobody is answered there any more" in served.told[-1].reason

    def test_it_ends_also_in_its_pause(self, served):
        served.endpoint._server.service_actions = lambda: 1 / 0
        until(lambda: len(served.told) > 1)
        served.endpoint.close()
        assert not served.endpoint._thread.is_alive()

    def test_nor_does_one_who_cannot_be_told_end_it(self, served, caplog):
        def deaf(_) -> None:
            raise BrokenPipeError

        served.endpoint._tell = guarded(deaf)
        served.endpoint._server.service_actions = lambda: 1 / 0
        until(lambda: "could not be told" in caplog.text)
        del served.endpoint._server.service_actions
        until(lambda: served.endpoint._thread.is_alive() and served.ask("/healthz")[0] == 200)


def until(condition) -> None:
    assert wait_until(condition, LIMIT, 0.01)
