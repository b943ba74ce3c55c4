"""What daemons and commands get of the environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.config import environment
from mountkit.spec import Source, StoreOptions
from mountkit.store import providers

SOURCE = Source("s3", "bucket", "run")


class TestEnvironments:
    def test_a_daemon_gets_credentials_and_the_network(self, monkeypatch):
        for name in ("AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, f"/value of {name}")
        seen = environment.daemon_environment(SOURCE, StoreOptions())
        for name in ("AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE"):
            assert seen[name] == f"/value of {name}"
        assert seen["PATH"] == os.environ["PATH"]

    @pytest.mark.parametrize(
        ("given", "meant"), [("mine/config", "{here}/mine/config"), ("~/c", "{home}/c"), ("", "")]
    )
    def test_a_file_that_a_variable_names_is_the_same_for_a_daemon(
        self, elsewhere, monkeypatch, given, meant
    ):
        meant = meant.format(here=elsewhere, home=os.environ["HOME"])
        monkeypatch.setenv("AWS_CONFIG_FILE", given)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "v2/x")
        seen = environment.daemon_environment(SOURCE, StoreOptions())
        assert seen["AWS_CONFIG_FILE"] == meant
        assert seen["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] == "v2/x"

    def test_one_that_leads_nowhere_is_left_to_whoever_opens_it(self, monkeypatch):
        monkeypatch.setenv("AWS_CA_BUNDLE", "~nobody-of-that-name/ca.pem")
        seen = environment.daemon_environment(SOURCE, StoreOptions())
        assert seen["AWS_CA_BUNDLE"] == "~nobody-of-that-name/ca.pem"

    @pytest.mark.fault(13)
    @pytest.mark.parametrize(
        "name", ["RCLONE_VFS_WRITE_BACK", "RCLONE_CONFIG_MOUNTKIT_TYPE", "LD_PRELOAD", "XPATH"]
    )
    def test_nothing_else_reaches_it(self, monkeypatch, name):
        monkeypatch.setenv(name, "0")
        assert name not in environment.daemon_environment(SOURCE, StoreOptions())

    @given(st.text(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), max_size=12))
    def test_no_rclone_variable_ever_passes(self, tail):
        for pattern in (environment.DAEMON_VARIABLES, *(each.variables for each in providers())):
            assert not pattern.fullmatch(f"RCLONE_{tail}")

    def test_a_profile_given_as_a_flag_reaches_it(self, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "other")
        assert (
            environment.daemon_environment(SOURCE, StoreOptions(profile="mine"))["AWS_PROFILE"]
            == "mine"
        )

    def test_the_users_command_gets_all_of_ours(self, monkeypatch):
        monkeypatch.setenv("RCLONE_X", "1")
        assert environment.command_environment()["RCLONE_X"] == "1"

    def test_programs_are_looked_for_even_without_a_path(self, monkeypatch):
        monkeypatch.delenv("PATH")
        assert environment.search_path() == os.defpath
