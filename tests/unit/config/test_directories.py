"""Where caches and state lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mountkit.config import directories, environment
from mountkit.config import settings as settings_module
from mountkit.errors import ConfigurationError


class TestRoots:
    def test_the_cache_goes_where_it_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert directories.cache_root(settings_module.load()) == tmp_path / "mountkit" / "mounts"
        assert directories.cache_root(settings_module.load(cache_dir="here")) == tmp_path / "here"

    def test_without_xdg_it_is_in_the_home(self, monkeypatch):
        monkeypatch.delenv("XDG_CACHE_HOME")
        expected = Path(os.environ["HOME"]) / ".cache" / "mountkit" / "mounts"
        assert directories.cache_root(settings_module.load()) == expected

    def test_a_tilde_in_a_setting_is_the_home(self, monkeypatch):
        monkeypatch.setenv("MOUNTKIT_CACHE_DIR", "~/cache")
        assert directories.cache_root(settings_module.load()) == Path(os.environ["HOME"]) / "cache"

    def test_the_state_goes_to_the_runtime_directory_if_it_is_there(self, tmp_path, monkeypatch):
        monkeypatch.delenv("MOUNTKIT_STATE_DIR")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        assert directories.state_root(settings_module.load()) == tmp_path / "mountkit"
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
        assert directories.state_root(settings_module.load()) == Path(
            f"/tmp/mountkit-{os.getuid()}"
        )

    @pytest.mark.parametrize("name", ["state_dir", "cache_dir"])
    @pytest.mark.parametrize("how", ["flag", "environment", "file"])
    def test_they_stay_where_they_were_whoever_goes_elsewhere(
        self, elsewhere, monkeypatch, name, how
    ):
        monkeypatch.delenv("MOUNTKIT_STATE_DIR")
        if how == "environment":
            monkeypatch.setenv(f"MOUNTKIT_{name.upper()}", "here")
        elif how == "file":
            (elsewhere / "mountkit.toml").write_text(f'{name} = "here"\n')
        settings = settings_module.load(**({name: "here"} if how == "flag" else {}))
        monkeypatch.chdir("/")
        root = directories.state_root if name == "state_dir" else directories.cache_root
        assert root(settings) == elsewhere / "here"
        env = environment.command_environment(settings)
        assert env[f"MOUNTKIT_{name.upper()}"] == str(elsewhere / "here")

    def test_what_was_not_set_is_not_handed_on(self, monkeypatch):
        monkeypatch.delenv("MOUNTKIT_STATE_DIR")
        env = environment.command_environment(settings_module.load())
        assert not {"MOUNTKIT_STATE_DIR", "MOUNTKIT_CACHE_DIR"} & env.keys()

    def test_without_a_current_directory_a_relative_one_is_refused(self, elsewhere, monkeypatch):
        (elsewhere / "gone").mkdir()
        monkeypatch.chdir(elsewhere / "gone")
        (elsewhere / "gone").rmdir()
        with pytest.raises(ConfigurationError, match="the current directory is gone"):
            settings_module.load(state_dir="here")
        assert settings_module.load(state_dir="/there").state_dir == Path("/there")

    def test_the_home_of_nobody_is_refused(self):
        with pytest.raises(ConfigurationError, match="no such home"):
            settings_module.load(cache_dir="~nobody-of-that-name/cache")

    def test_a_relative_standard_directory_is_ignored(self, elsewhere, monkeypatch):
        (elsewhere / "here").mkdir()
        monkeypatch.delenv("MOUNTKIT_STATE_DIR")
        monkeypatch.setenv("XDG_RUNTIME_DIR", "here")
        monkeypatch.setenv("XDG_CACHE_HOME", "here")
        assert directories.state_root(settings_module.load()) == Path(
            f"/tmp/mountkit-{os.getuid()}"
        )
        cache = Path(os.environ["HOME"]) / ".cache" / "mountkit" / "mounts"
        assert directories.cache_root(settings_module.load()) == cache
