"""The command line: an error is a sentence and an exit code; nothing heavy is loaded early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mountkit
from mountkit import cli
from mountkit._version import __version__
from mountkit.cli import console
from mountkit.errors import ConfigurationError, MountkitError, NotDurableError
from mountkit.linux.process import ProcessIdentity
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state.record import RECORD_NAME, SERVING, MountRecord, now
from mountkit.state.registry import State

PACKAGE = str(Path(mountkit.__file__).parents[1])
HEAVY = {
    "awscrt",
    "boto3",
    "botocore",
    "msgspec",
    "prometheus_client",
    "torch",
    "transformers",
}


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch) -> State:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOUNTKIT_STATE_DIR", str(tmp_path / "s"))
    return State(tmp_path / "s")


@pytest.fixture
def run(capfd):
    """Run a command line in this process; its exit code, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(list(words))
        captured = capfd.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


def broken_mount(known: State, target: str = "/mnt/run") -> MountRecord:
    dead = ProcessIdentity(os.getpid(), 1.0, "/gone")
    spec = MountSpec(Source("s3", "b", "p"), target, "rclone", StoreOptions(), "/no/such/cache")
    record = MountRecord(spec, SERVING, now(), dead, dead)
    known.directory(spec.id).write(record)
    return record


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "code", "says"),
        [
            (["mount", "bucket", "/mnt"], 2, "'bucket' is not a URL."),
            (["mount", "file://b", "/mnt"], 2, "'file://b' names no absolute path"),
            (["mount", "s3://b", "/mnt", "--backend", "sshfs"], 2, "no backend called 'sshfs'"),
            (["mount", "s3://b", "/mnt", "--option", "x"], 2, "not KEY=VALUE"),
            (["mount", "s3://b", "/mnt", "--option", "cache-dir=/x"], 2, "mountkit's own"),
            (["umount", "/mnt/none"], 69, "Nothing of mountkit is mounted at /mnt/none."),
            (["umount", "--discard", "/mnt/none"], 69, "Nothing of mountkit"),
            (["latest", "/mnt/none"], 78, "/mnt/none lies in no mount"),
            (["verify", "/mnt/none"], 78, "/mnt/none lies in no mount"),
            (["latest", "s3://"], 2, "names no bucket"),
            (["run"], 2, "no command to run"),
            (["run", "s3://b", "/mnt", "--"], 2, "no command to run"),
            (["run", "s3://b", "--", "/bin/true"], 2, "both or neither"),
            (["run", "s3://b", "/mnt", "--", "no-such-program"], 2, "'no-such-program'"),
            (["run", "--load-path", "/no", "--", "/bin/true"], 2, "load_path /no is no directory"),
        ],
    )
    def test_a_sentence_a_hint_and_a_code(self, run, words, code, says):
        found, out, err = run(*words)
        assert found == code
        assert out == ""
        sentence, *hint = err.splitlines()
        assert sentence.startswith("mountkit: ")
        assert says in sentence
        assert len(hint) == 1
        assert hint[0].startswith("  ")
        assert "Traceback" not in err

    def test_a_wrong_setting_is_a_matter_of_configuration(self, run, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_STALL_TIMEOUT", "soon")
        code, _, err = run("status")
        assert code == 78
        assert "MOUNTKIT_STALL_TIMEOUT" in err
        # There is no such flag.
        assert "--stall-timeout" not in err

    def test_a_wrong_flag_is_the_one_to_correct(self, run):
        code, _, err = run("run", "--grace", "soon", "--", "true")
        assert code == 78
        assert "Correct --grace." in err

    @pytest.mark.parametrize("words", [["--"], ["--grace", "soon", "--", "true"]])
    @pytest.mark.parametrize("flag", [True, False])
    def test_a_log_for_machines_has_what_is_wrong_with_the_settings(
        self, run, monkeypatch, words, flag
    ):
        if not flag:
            monkeypatch.setenv("MOUNTKIT_LOG_FORMAT", "json")
        try:
            _, _, err = run("run", *(["--log-format", "json"] if flag else []), *words)
        finally:
            console.use("human")
        assert json.loads(err)["event"] == "Error"

    def test_verify_says_the_same_of_a_url_without_a_bucket(self, run):
        assert run("verify", "s3://")[0] == 2

    @pytest.mark.parametrize(
        "words", [["frobnicate"], ["latest"], ["verify", "x", "--level", "hope"], ["status", "-x"]]
    )
    def test_usage_that_click_refuses(self, run, words):
        code, out, err = run(*words)
        assert code == 2
        assert out == ""
        assert "Error" in err

    def test_json_says_the_same_on_stdout(self, run):
        code, out, err = run("latest", "/mnt/none", "--format", "json")
        error = json.loads(out)["error"]
        assert error["code"] == code == 78
        assert error["message"] in err
        assert error["hint"] in err

    def test_the_traceback_is_for_those_who_ask(self, run, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_TRACEBACK", "1")
        _, _, err = run("latest", "/mnt/none")
        assert "Traceback" in err
        assert "mountkit: /mnt/none" in err

    def test_every_error_class_has_a_code_of_its_own(self):
        def below(kind):
            return {kind, *(found for child in kind.__subclasses__() for found in below(child))}

        # Those without a code of their own are told by the name of their parent.
        public = [kind for kind in below(MountkitError) if "exit_code" in vars(kind)]
        own = {kind.__name__: kind.exit_code for kind in public}
        assert len(set(own.values())) == len(own)
        assert set(own.values()) == {70, 2, 69, 74, 75, 77, 78}

    def test_show_returns_the_code_of_the_error(self, capsys):
        assert cli.show(NotDurableError("a\n  b"), as_json=False) == 75
        assert cli.show(ConfigurationError("c", hint="d"), as_json=True) == 78
        captured = capsys.readouterr()
        assert captured.err == "mountkit: a\n  b\nmountkit: c\n  d\n"
        assert json.loads(captured.out) == {"error": {"code": 78, "message": "c", "hint": "d"}}


class TestWantsJson:
    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            (["latest", "x", "--format", "json"], True),
            (["--format=json"], True),
            (["latest", "x", "--format", "human"], False),
            (["latest", "json", "--format"], False),
            (["run", "--", "tool", "--format", "json"], False),
            (["run", "--", "tool", "--format=json"], False),
            (["--format", "--", "json"], False),
            ([], False),
        ],
    )
    def test_only_our_own_option_counts(self, words, wanted):
        assert cli.wants_json(words) is wanted

    @given(st.lists(st.sampled_from(["--format", "json", "--format=json", "x"])))
    def test_nothing_after_two_dashes_counts(self, words):
        assert not cli.wants_json(["run", "--", *words])


class TestRun:
    @pytest.mark.parametrize("code", [0, 3, 75])
    def test_without_a_bucket_the_command_simply_runs(self, run, code):
        found, _, err = run("run", "--", "/bin/sh", "-c", f"exit {code}")
        assert found == code
        assert "without a mount" in err

        assert "listens" not in err

    @pytest.mark.parametrize("how", ["flag", "variable"])
    def test_without_a_bucket_nobody_listens_and_it_says_so(self, run, monkeypatch, how):
        flags = ["--listen", "9090"] if how == "flag" else []
        if how == "variable":
            monkeypatch.setenv("MOUNTKIT_LISTEN", "9090")
        code, _, err = run("run", *flags, "--", "/bin/true")
        assert code == 0
        assert "mountkit: nothing listens on 127.0.0.1:9090: there is no mount to tell of\n" in err

    def test_a_signal_is_added_to_128(self, run):
        code, _, _ = run("run", "--", "/bin/sh", "-c", "kill -TERM $$")
        assert code == 128 + signal.SIGTERM

    def test_what_follows_the_first_two_dashes_is_the_commands(self, run):
        code, out, _ = run("run", "--", "/usr/bin/printf", "<%s>", "--", "--help", "-h")
        assert code == 0
        assert out == "<--><--help><-h>"

    def test_a_source_without_a_target(self, run, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_SOURCE", "s3://bucket")
        code, _, err = run("run", "--", "/bin/true")
        assert code == 2
        assert "MOUNTKIT_TARGET" in err


class TestStatus:
    def test_nothing_is_mounted(self, run):
        code, out, err = run("status")
        assert (code, out) == (1, "")
        assert "nothing is mounted" in err

    def test_nothing_is_mounted_in_json(self, run):
        code, out, _ = run("status", "--format", "json")
        assert code == 1
        assert json.loads(out) == {"mounts": []}

    def test_a_mount_without_its_processes_is_broken(self, run, own_state):
        record = broken_mount(own_state)
        code, out, _ = run("status", "--format", "json")
        assert code == 69
        (mount,) = json.loads(out)["mounts"]
        assert mount["state"] == "broken"
        assert mount["source"] == record.spec.source.url
        assert mount["supervisor_pid"] is None
        assert mount["daemon_pid"] is None
        assert mount["pending_files"] == 0
        assert mount["last_proven"] is None

    def test_only_the_one_that_was_asked_for(self, run, own_state):
        broken_mount(own_state)
        assert run("status", "/mnt/other")[0] == 1
        code, out, _ = run("status", "/mnt/run")
        assert code == 69
        assert "broken" in out

    def test_a_record_that_cannot_be_read(self, run, own_state, caplog):
        (own_state.directory("1").path / RECORD_NAME).write_text("{")
        assert run("status")[0] == 1
        assert "record.json cannot be read" in caplog.text


class TestHelp:
    def test_every_command_is_listed_and_explains_itself(self, run):
        code, out, _ = run("--help")
        assert code == 0
        for name, line in cli.COMMANDS.items():
            assert name in out
            assert line.split()[0] in out
            code, own, _ = run(name, "-h")
            assert code == 0
            assert f"Usage: mountkit {name}" in own

    def test_the_version(self, run):
        assert run("--version")[1] == f"mountkit, version {__version__}\n"

    def test_no_arguments_are_no_success(self, run):
        assert run()[0] == 2


def python(code: str, **options) -> subprocess.CompletedProcess[bytes]:
    environment = {"PYTHONPATH": PACKAGE, "HOME": os.environ["HOME"]}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, timeout=60, **options
    )


LOADED = "import json, sys; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"


def loaded_by(code: str) -> set[str]:
    answer = python(f"{code}\n{LOADED}", capture_output=True)
    assert answer.returncode == 0, answer.stderr.decode()
    return set(json.loads(answer.stdout.splitlines()[-1]))


class TestWeight:
    def test_importing_the_package_loads_nothing_heavy(self):
        assert not loaded_by("import mountkit") & (HEAVY | {"click", "psutil", "rich"})

    @pytest.mark.parametrize(
        "words", [["--help"], ["--version"], *([n, "-h"] for n in cli.COMMANDS)]
    )
    def test_help_loads_nothing_heavy(self, words):
        code = f"from mountkit import cli\ntry:\n    cli.main({words!r})\nexcept SystemExit: pass"
        assert not loaded_by(code) & HEAVY

    def test_the_metrics_are_loaded_only_where_somebody_listens(self):
        begin = (
            "from mountkit.lifecycle import session; from mountkit.config.settings import load;"
            " session._endpoint(load(), None, None)"
        )
        assert "prometheus_client" not in loaded_by(begin)
        assert "prometheus_client" in loaded_by("import mountkit.monitoring.endpoint")

    def test_another_backend_is_asked_what_waits_without_all_that_mounts_with_it(self):
        load = (
            "import sys; from mountkit import backends; backends.load('mountpoint');"
            " assert 'mountkit.backends.mountpoint.control' not in sys.modules"
        )
        assert loaded_by(load)

    def test_the_public_names_are_there_and_no_other(self):
        assert set(mountkit.__all__) <= set(dir(mountkit))
        with pytest.raises(AttributeError, match="no_such_name"):
            mountkit.no_such_name  # noqa: B018


def test_a_reader_that_has_had_enough_ends_it_as_any_program():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        answer = python(
            "from mountkit import cli; cli.main(['--help'])", stdout=writer, stderr=subprocess.PIPE
        )
    finally:
        os.close(writer)
    assert answer.stderr == b""
    assert answer.returncode == 141


def test_the_module_can_be_run():
    answer = subprocess.run(
        [sys.executable, "-m", "mountkit", "--version"],
        env={"PYTHONPATH": PACKAGE},
        capture_output=True,
        check=True,
    )
    assert __version__ in answer.stdout.decode()
