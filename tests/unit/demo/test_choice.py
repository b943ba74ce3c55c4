"""Where the demo plays: what is refused before anything is started, and what counts as a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mountkit.demo import choice
from mountkit.demo.choice import SERVERS, Wish, choose, refuse_contradictions, secrets_in
from mountkit.demo.claims import Facts, no_secret_shown
from mountkit.demo.servers import without_own_stores
from mountkit.errors import MountUnavailableError
from support import in_process


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--store", "gs", "--source", "gs://b/p"], "--store starts"),
        (["--store", "s3", "--source", "rclone://nas/p"], "--store starts"),
        (["--endpoint-url", "http://127.0.0.1:9"], "say how a --source is reached"),
        (["--store", "gs", "--profile", "me"], "say how a --source is reached"),
        (["--source", "gs://b/p", "--data-dir", "d"], "--data-dir is where"),
        (["--store", "az", "--data-dir", "d"], "--data-dir is where"),
        (["--store", "hdfs", "--keep"], "--store hdfs holds ends with its server"),
        (["--source", "my-bucket/p"], "is not a URL"),
        (["--source", "ftp://b/p"], "not a scheme mountkit knows"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], named: str, tmp_path: Path) -> None:
    # Nothing is on the PATH: they are refused before anything is looked for.
    code, out, err = in_process.invoke(["demo", *words], {"PATH": str(tmp_path)})
    assert (code, out) == (2, "")
    assert named in err


@pytest.mark.parametrize("store", [word for word, (program, _) in SERVERS.items() if program])
def test_a_server_that_is_not_on_path_is_named(store: str, tmp_path: Path) -> None:
    program, _ = SERVERS[store]
    with pytest.raises(MountUnavailableError) as refusal:
        choose(Wish(store=store), "/bin/rclone", str(tmp_path))
    assert f"no {program} on PATH" in refusal.value.message
    assert f"mountkit demo --source {store}://" in refusal.value.hint
    server = tmp_path / program
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    assert choose(Wish(store=store), "/bin/rclone", str(tmp_path))


@pytest.mark.parametrize("wish", [Wish(), Wish(keep=True), Wish(store="sftp", data_dir=Path("d"))])
def test_rclone_serves_where_the_bucket_is_a_directory(wish: Wish) -> None:
    refuse_contradictions(wish)
    assert choose(wish, "/bin/rclone", "/nowhere")


def test_what_is_secret_of_the_environment() -> None:
    secret = {
        "AWS_SECRET_ACCESS_KEY": "secret-of-aws",
        "AWS_SESSION_TOKEN": "token-of-aws",
        "AZURE_STORAGE_KEY": "key-of-azure",
        "AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=key-in-a-string==;X=y",
        "RCLONE_CONFIG_NAS_PASS": "obscured",
        "RCLONE_CONFIG_PASS": "of-the-configuration",
    }
    public = {
        "AWS_ACCESS_KEY_ID": "AKIA00000000",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token-file",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/me/key.json",
        "RCLONE_CONFIG_NAS_KEY_FILE": "/home/me/.ssh/id",
        "RCLONE_PASSWORD_COMMAND": "pass show rclone",
        "RCLONE_CONFIG_NAS_KEY_USE_AGENT": "true",
        "GITHUB_TOKEN": "of-another-thing",
    }
    expected = {*secret.values(), "key-in-a-string=="}
    assert {*secrets_in({**secret, **public})} == expected


def test_no_variable_of_the_users_stores_leads_away(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_KEY"):
        monkeypatch.setenv(name, "of the user")
    found = without_own_stores({"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"})
    assert found.pop("STORAGE_EMULATOR_HOST") == "http://127.0.0.1:1"
    assert "of the user" not in found.values()
    assert found["PATH"] == os.environ["PATH"]


def test_the_users_own_store_keeps_the_users_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "key.json")
    monkeypatch.setenv("MOUNTKIT_ENDPOINT_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("MOUNTKIT_LISTEN", "9100")
    with choice.users_own(Wish(source="gs://b/p/")) as found:
        assert found.url == "gs://b/p"
        # From another directory, too.
        assert found.environment["GOOGLE_APPLICATION_CREDENTIALS"] == str(tmp_path / "key.json")
        assert found.options.endpoint_url == "http://127.0.0.1:2"
        assert "MOUNTKIT_LISTEN" not in found.environment
    asked = Wish(source="gs://b/p", endpoint_url="http://127.0.0.1:3")
    with choice.users_own(asked) as found:
        assert found.options.endpoint_url == "http://127.0.0.1:3"


@pytest.mark.parametrize(
    ("secrets", "shown", "held", "evidence"),
    [
        (1, False, True, "looked for it in every process"),
        (1, True, False, "ps shows it"),
        (0, False, True, "none to look for"),
    ],
)
def test_a_secret_that_nobody_has_is_not_looked_for(
    secrets: int, shown: bool, held: bool, evidence: str
) -> None:
    result = no_secret_shown(Facts(secrets=secrets, secret_shown=shown))
    assert result is not None
    assert result[0] is held
    assert evidence in result[1]
