"""What a command says on stderr: lines for people, or one JSON object a line for a log."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import typing
from datetime import datetime

import pytest

from mountkit import cli, events
from mountkit.cli import console
from mountkit.errors import ConfigurationError
from mountkit.monitoring.http_server import logger
from support.event_samples import KINDS, sample


@pytest.fixture(autouse=True)
def for_people_again():
    yield
    console.use("human")


@pytest.fixture
def lines(capsys):
    """What was written since, one object a line."""

    def read() -> list[dict[str, typing.Any]]:
        captured = capsys.readouterr()
        assert captured.out == ""
        return [json.loads(line) for line in captured.err.splitlines()]

    return read


class TestForPeople:
    def test_a_line_an_event(self, capsys):
        printed = console.Console()
        printed(events.EndpointStarted("http://127.0.0.1:1"))
        printed(events.FileProven(3, "model", 10, "crc64nvme", 1.0))
        console.say("hello")
        assert capsys.readouterr().err == (
            "mountkit: health and metrics at http://127.0.0.1:1 (/healthz, /readyz, /metrics)\n"
            "mountkit: hello\n"
        )

    def test_an_error_and_its_hint(self, capsys):
        console.fail(ConfigurationError("No.", hint="Yes."))
        assert capsys.readouterr().err == "mountkit: No.\n  Yes.\n"


class TestForALog:
    def test_an_event_with_its_fields(self, lines):
        console.use("json")
        console.Console()(events.MountLost("rclone ended", "died"))
        (line,) = lines()
        at = datetime.fromisoformat(line.pop("time"))
        assert at.tzinfo is not None
        assert line == {
            "level": "warning",
            "event": "MountLost",
            "reason": "rclone ended",
            "cause": "died",
            "message": "the mount is lost: rclone ended; mounting again",
        }

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_same_events_as_people_see(self, lines, kind):
        console.use("json")
        event = sample(kind)
        console.Console()(event)
        told = isinstance(event, events.UploadProgress) or bool(console.describe(event))
        found = lines()
        assert len(found) == told
        for line in found:
            assert list(line)[:3] == ["time", "level", "event"]
            assert line["level"] in {"info", "warning", "error"}
            assert events.to_json(event).items() <= line.items()

    def test_no_bar_is_drawn_even_on_a_terminal(self, lines, monkeypatch):
        monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
        console.use("json")
        printed = console.Console()
        printed(events.UploadProgress(3, 1_000_000))
        printed(events.UploadProgress(2, 500_000))
        printed.clear()
        (line,) = lines()
        assert (line["event"], line["files"], line["size"]) == ("UploadProgress", 3, 1_000_000)

    def test_a_sentence(self, lines):
        console.use("json")
        console.say("two\nlines and ü")
        (line,) = lines()
        assert (line["level"], line["event"]) == ("info", "Message")
        assert line["message"] == "two\nlines and ü"

    def test_a_sentence_from_a_signal_s_handler(self, capfd):
        console.at_once("still at it")
        console.use("json")
        console.at_once("still at it")
        plain, line = capfd.readouterr().err.splitlines()
        assert plain == "mountkit: still at it"
        assert json.loads(line)["message"] == "still at it"

    def test_an_error(self, lines):
        console.use("json")
        assert cli.show(ConfigurationError("No.", hint="Yes."), as_json=False) == 78
        (line,) = lines()
        assert (line["level"], line["event"], line["code"]) == ("error", "Error", 78)
        assert (line["message"], line["hint"]) == ("No.", "Yes.")

    def test_what_the_package_logs(self, lines):
        console.use("json")
        console.use("json")
        assert not logger.propagate, "nobody else prints it as well"
        logger.warning("mountkit: %s is odd", "it", exc_info=KeyError("x"))
        (line,) = lines()
        assert (line["level"], line["event"], line["message"]) == (
            "warning",
            "Message",
            "it is odd",
        )
        assert "KeyError" in line["traceback"]

    def test_for_people_again(self, capsys):
        console.use("json")
        console.use("human")
        console.say("hello")
        assert capsys.readouterr().err == "mountkit: hello\n"
        assert logging.getLogger("mountkit").propagate
        assert logging.getLogger("mountkit").handlers == []


@pytest.mark.parametrize("closed", [True, False])
def test_who_has_closed_stderr_gets_the_code_all_the_same(closed: bool) -> None:
    line = f"{sys.executable} -m mountkit latest --help >/dev/null {'2>&-' if closed else ''}"
    done = subprocess.run(["/bin/sh", "-c", line], check=False, timeout=60)
    assert done.returncode == 0
