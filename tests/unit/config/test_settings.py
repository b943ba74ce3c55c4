"""Settings: flag, then MOUNTKIT_*, then mountkit.toml, then default; and what a daemon may see."""

from __future__ import annotations

import errno
import os
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import get_type_hints

import pytest

from mountkit.config import settings as settings_module
from mountkit.config.address import Address
from mountkit.config.settings import Settings
from mountkit.config.values import Seconds
from mountkit.errors import ConfigurationError
from mountkit.linux import mount_table
from mountkit.linux.mount_table import MountEntry
from mountkit.spec import Source, StoreOptions

SOURCE = Source("s3", "bucket", "run")
DURATIONS = [
    name
    for name, kind in get_type_hints(Settings, include_extras=True).items()
    if kind in (Seconds, Seconds | None)
]


class TestPrecedence:
    def test_each_source_masks_the_next(self, elsewhere, monkeypatch):
        assert settings_module.load().region is None
        (elsewhere / "mountkit.toml").write_text('region = "from-file"\nprofile = "from-file"\n')
        assert settings_module.load().region == "from-file"
        monkeypatch.setenv("MOUNTKIT_REGION", "from-env")
        assert settings_module.load().region == "from-env"
        assert settings_module.load(region="from-flag").region == "from-flag"
        assert settings_module.load(region="from-flag").profile == "from-file"

    def test_a_flag_that_was_not_given_masks_nothing(self, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_REGION", "from-env")
        assert settings_module.load(region=None).region == "from-env"

    def test_the_standard_variables_come_last(self, monkeypatch):
        monkeypatch.setenv("AWS_REGION", "aws")
        monkeypatch.setenv("AWS_PROFILE", "aws")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://aws")
        assert settings_module.load().store(SOURCE) == StoreOptions("http://aws", "aws", "aws")
        monkeypatch.setenv("MOUNTKIT_ENDPOINT_URL", "http://ours")
        assert settings_module.load(region="ours", profile="ours").store(SOURCE) == StoreOptions(
            "http://ours", "ours", "ours"
        )

    @pytest.mark.parametrize(
        ("first", "second", "field"),
        [
            ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "endpoint_url"),
            ("AWS_REGION", "AWS_DEFAULT_REGION", "region"),
        ],
    )
    def test_of_two_standard_variables_the_closer_one(self, monkeypatch, first, second, field):
        monkeypatch.setenv(second, "second")
        assert getattr(settings_module.load().store(SOURCE), field) == "second"
        monkeypatch.setenv(first, "first")
        assert getattr(settings_module.load().store(SOURCE), field) == "first"
        monkeypatch.setenv(first, "")
        assert getattr(settings_module.load().store(SOURCE), field) == "second"

    def test_an_empty_variable_is_not_set(self, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_SOURCE", "")
        assert settings_module.load().source is None

    def test_a_variable_counts_in_letters_of_any_case(self, monkeypatch):
        monkeypatch.setenv("mountkit_Region", "from-env")
        assert settings_module.load().region == "from-env"
        # An empty one does not mask it.
        monkeypatch.setenv("MOUNTKIT_REGION", "")
        assert settings_module.load().region == "from-env"

    @pytest.mark.parametrize(
        "text",
        [
            'Region = "first"',
            'REGION = "first"\nregion = "second"',
            'region = "first"\nREGION = "second"',
        ],
    )
    def test_so_does_a_name_in_the_file_and_the_first_of_two(self, elsewhere, text):
        (elsewhere / "mountkit.toml").write_text(text)
        assert settings_module.load().region == "first"

    def test_a_directory_of_that_name_is_no_file(self, elsewhere):
        (elsewhere / "mountkit.toml").mkdir()
        assert settings_module.load().region is None


class TestBadValues:
    def test_a_name_in_the_file_that_is_no_setting(self, elsewhere):
        (elsewhere / "mountkit.toml").write_text('regions = "r"')
        with pytest.raises(ConfigurationError, match="regions cannot be 'r'"):
            settings_module.load()

    def test_a_table_in_the_file(self, elsewhere):
        (elsewhere / "mountkit.toml").write_text("[source]\nurl = 1")
        with pytest.raises(ConfigurationError, match="source cannot be"):
            settings_module.load()

    def test_a_variable_that_is_no_setting_is_passed_over(self, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_OF_SOMEBODY_ELSE", "1")
        assert settings_module.load().region is None

    @pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
    def test_the_setting_and_its_value_are_named(self, monkeypatch, value):
        monkeypatch.setenv("MOUNTKIT_STALL_TIMEOUT", value)
        with pytest.raises(ConfigurationError) as caught:
            settings_module.load()
        assert "stall_timeout" in caught.value.message
        assert "MOUNTKIT_STALL_TIMEOUT" in caught.value.hint
        assert caught.value.exit_code == 78

    @pytest.mark.parametrize("value", ["inf", "-inf", "nan", "Infinity"])
    @pytest.mark.parametrize("name", DURATIONS)
    def test_a_duration_is_a_number_with_an_end(self, monkeypatch, name, value):
        # A request with a time limit of inf fails at once, and a deadline of inf is past.
        monkeypatch.setenv(f"MOUNTKIT_{name.upper()}", value)
        with pytest.raises(ConfigurationError) as caught:
            settings_module.load()
        assert name in caught.value.message
        assert caught.value.exit_code == 78

    @pytest.mark.parametrize("name", DURATIONS)
    def test_nor_is_it_in_the_file_or_a_flag(self, elsewhere, name):
        with pytest.raises(ConfigurationError, match=name):
            settings_module.load(**{name: float("inf")})
        (elsewhere / "mountkit.toml").write_text(f"{name} = inf\n")
        with pytest.raises(ConfigurationError, match=name):
            settings_module.load()

    def test_a_file_that_is_no_toml(self, elsewhere):
        (elsewhere / "mountkit.toml").write_text("region = [")
        with pytest.raises(ConfigurationError, match=r"mountkit\.toml cannot be read"):
            settings_module.load()

    def test_a_value_of_the_wrong_kind_in_the_file(self, elsewhere):
        (elsewhere / "mountkit.toml").write_text("region = [1]\n")
        with pytest.raises(ConfigurationError, match="region"):
            settings_module.load()


class TestTheFile:
    """It is looked for beside the user, where looking cannot hang."""

    @pytest.mark.fault(8)
    def test_in_a_mount_it_is_not_looked_for(self, elsewhere, monkeypatch):
        (elsewhere / "mountkit.toml").write_text('region = "from-file"\n')
        inside = MountEntry(str(elsewhere), "fuse.rclone", "mountkit-1", 52)
        monkeypatch.setattr(mount_table, "read", lambda: (inside,))
        assert settings_module.load().region is None

    def test_a_directory_that_is_gone_has_none(self, elsewhere, monkeypatch):
        (elsewhere / "gone").mkdir()
        monkeypatch.chdir(elsewhere / "gone")
        (elsewhere / "gone").rmdir()
        assert settings_module.load().region is None

    def test_one_that_cannot_be_looked_for_is_passed_over_by_name(
        self, elsewhere, monkeypatch, caplog
    ):
        def stat(path, **_):
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), str(path))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", stat)
            assert settings_module.load().region is None
        assert f"{elsewhere}/mountkit.toml is passed over: Transport" in caplog.text

    def test_one_that_cannot_be_read_is_an_error(self, elsewhere, monkeypatch):
        (elsewhere / "mountkit.toml").write_text('region = "from-file"\n')

        def open_(path, *_, **__):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(Path, "open", open_)
        with pytest.raises(ConfigurationError, match=r"mountkit\.toml cannot be read: .*denied"):
            settings_module.load()


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        settings_module.load().region = "other"


class TestListen:
    def test_nobody_listens_unless_told(self):
        assert settings_module.load().address is None

    def test_each_way_to_say_it(self, elsewhere, monkeypatch):
        (elsewhere / "mountkit.toml").write_text("listen = 9090\n")
        assert settings_module.load().address == Address("127.0.0.1", 9090)
        monkeypatch.setenv("MOUNTKIT_LISTEN", "0.0.0.0:9091")
        assert settings_module.load().address == Address("0.0.0.0", 9091)
        assert settings_module.load(listen="9092").address == Address("127.0.0.1", 9092)

    def test_a_bad_one_says_what_to_write(self, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_LISTEN", ":9090")
        with pytest.raises(ConfigurationError) as caught:
            settings_module.load()
        expected = "listen cannot be ':9090': name a host: 0.0.0.0:9090 for every address of this"
        assert caught.value.message.startswith(expected)
        assert "MOUNTKIT_LISTEN" in caught.value.hint


class TestLogFormat:
    def test_for_people_unless_told(self, monkeypatch):
        assert settings_module.load().log_format == "human"
        monkeypatch.setenv("MOUNTKIT_LOG_FORMAT", "json")
        assert settings_module.load().log_format == "json"

    def test_there_is_no_other(self):
        with pytest.raises(ConfigurationError, match="'human' or 'json'"):
            settings_module.load(log_format="xml")
