"""rclone's command line: no secret in it, no failed upload dropped, one place for the cache."""

from __future__ import annotations

import configparser
import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mountkit.backends.base import Binary
from mountkit.backends.rclone import backend
from mountkit.backends.rclone.backend import OWNED, RcloneBackend, device_name
from mountkit.errors import UsageError
from mountkit.linux.mount_table import MountEntry
from mountkit.spec import MountSpec, Source, StoreOptions
from mountkit.state import upload_tag
from mountkit.state.mount_directory import StateDirectory

BACKEND = RcloneBackend()
BINARY = Binary("/opt/rclone", (1, 75, 2))
STATE = Path("/run/mountkit/0123")
WORDS = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
STORES = st.builds(
    StoreOptions,
    endpoint_url=st.none() | st.just("http://localhost:9000"),
    region=st.none() | st.just("eu-north-1"),
    profile=st.none() | st.just("mine"),
)
# The Go durations that are nothing, or less.
NO_DELAY = [
    "0", "0s", "0m", "0ms", "0h0m", "00", "0.0s", " 0 ", "0d", "0us", "", "0ns", "0µs", "0w", "0y",
    "0M", "+0s", "-1s", "-0", "off", "soon",
]  # fmt: skip


def spec(options=(), store=StoreOptions(), prefix="run-1") -> MountSpec:  # noqa: B008 - frozen
    place = Source("s3", "bucket", prefix)
    return MountSpec(place, "/mnt/a b", "rclone", store, "/cache/0123", tuple(options))


def command(mount: MountSpec, environment=None):
    return BACKEND.command(mount, BINARY, STATE, environment or {})


def flags(mount: MountSpec) -> dict[str, str]:
    given_flags = command(mount).argv[4:]
    assert all(flag.startswith("--") for flag in given_flags)
    pairs = [flag[2:].partition("=") for flag in given_flags]
    names = [name for name, _, _ in pairs]
    assert sorted(set(names)) == names, "sorted, and each flag once"
    return {name: value for name, _, value in pairs}


def allowed(options) -> bool:
    try:
        BACKEND.check_options(options)
    except UsageError:
        return False
    return True


class TestCommand:
    def test_what_is_mounted_where(self):
        words = command(spec()).argv[:4]
        assert words == ("/opt/rclone", "mount", "mountkit:bucket/run-1", "/mnt/a b")
        assert command(spec(prefix="")).argv[2] == "mountkit:bucket"

    def test_an_option_reaches_rclone_and_wins_over_ours(self):
        assert flags(spec([("transfers", "8"), ("vfs-cache-max-size", "9G")])) | {
            "transfers": "8",
            "vfs-cache-max-size": "9G",
        } == flags(spec([("transfers", "8"), ("vfs-cache-max-size", "9G")]))

    @pytest.mark.fault(13)
    @given(st.lists(st.tuples(WORDS, VALUES), max_size=4), STORES)
    @example([("cache-dir", "/other"), ("config", "/other"), ("devname", "x")], StoreOptions())
    def test_whatever_the_options_the_cache_stays_where_it_was(self, options, store):
        plain, other = spec(), spec(options, store)
        for name in ("cache-dir", "config", "devname", "rc-addr"):
            pinned = flags(plain)[name] if name != "devname" else device_name(other.id)
            assert flags(other)[name] == pinned
        assert command(other).argv[2] == command(plain).argv[2]
        assert command(other).stdin.startswith("[mountkit]\n")

    def test_changing_an_option_does_not_change_the_mount(self):
        assert spec().id == spec([("transfers", "8")]).id

    @pytest.mark.fault(13)
    def test_nothing_of_the_connection_is_a_flag(self):
        store = StoreOptions("http://localhost:9000", "eu-north-1", "mine")
        assert not [name for name in flags(spec(store=store)) if name.startswith("s3-")]

    def test_the_remote_control_is_a_private_socket(self):
        assert flags(spec())["rc-addr"] == f"unix://{STATE}/rc.sock"

    def test_a_failed_upload_is_kept(self):
        assert flags(spec())["vfs-write-back"] == "1s"
        assert flags(spec())["vfs-cache-mode"] == "writes"

    @pytest.mark.fault(15)
    def test_what_it_uploads_carries_the_id_of_the_mount(self):
        mount = spec()
        assert flags(mount)["header-upload"] == f"X-Amz-Meta-mountkit: {mount.id}"
        assert BACKEND.mark == "mountkit"

    @pytest.mark.fault(45)
    def test_and_the_run_of_it_where_there_is_one(self, tmp_path):
        mount = spec()
        directory = StateDirectory(tmp_path)
        upload_tag.begin(directory, tmp_path)
        first = upload_tag.value(tmp_path, mount.id)
        words = BACKEND.command(mount, BINARY, tmp_path, {}).argv
        assert f"--header-upload=X-Amz-Meta-mountkit: {first}" in words
        assert not first.startswith(mount.id), "two machines may have the same"
        upload_tag.begin(directory, tmp_path)
        assert upload_tag.value(tmp_path, mount.id) != first

    def test_another_header_goes_beside_it_and_does_not_win_over_it(self):
        theirs = ("header-upload", "Cache-Control: no-store")
        words = [word for word in command(spec([theirs])).argv if "header-upload" in word]
        assert words == [
            "--header-upload=Cache-Control: no-store",
            f"--header-upload=X-Amz-Meta-mountkit: {spec().id}",
        ]

    def test_no_secret_is_in_the_arguments_or_the_files(self):
        secret = "wJalrXUtnFEMI"
        environment = {"AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": secret}
        made = command(spec(), environment)
        assert secret not in " ".join(made.argv)
        assert secret not in made.stdin
        assert made.env == environment


class TestOptions:
    @pytest.mark.parametrize("name", sorted(OWNED))
    def test_what_is_mountkits_own_is_refused(self, name):
        with pytest.raises(UsageError, match=name):
            BACKEND.check_options([("transfers", "8"), (name, "x")])

    def test_what_would_hide_what_the_log_tells_is_its_own(self):
        assert {"log-format", "use-json-log", "color", "quiet", "syslog", "log-systemd"} <= OWNED

    @pytest.mark.fault(47)
    @pytest.mark.parametrize(
        ("version", "kept"), [((1, 69, 1), "true"), ((1, 69, 0), None), ((1, 68, 2), None)]
    )
    def test_links_are_kept_where_rclone_does_not_lose_them(self, version, kept):
        command = BACKEND.command(spec(), Binary("rclone", version), Path("/private"), {})
        given = [word for word in command.argv if word.startswith("--vfs-links")]
        assert given == ([f"--vfs-links={kept}"] if kept else [])

    def test_all_that_it_pins_is_its_own(self):
        # A header for the uploads does not keep others out.
        ours = set(flags(spec())) - {*backend.MOUNT_FLAGS, "header-upload"}
        assert ours <= OWNED

    @pytest.mark.parametrize(
        "name",
        [
            "s3-secret-access-key",
            "s3-access-key-id",
            "s3-session-token",
            "rc-pass",
            "ftp-pass",
            "azureblob-key",
            "azureblob-sas-url",
            "azureblob-connection-string",
            "sftp-key-pem",
            "gcs-service-account-credentials",
        ],
    )
    def test_a_secret_is_refused_and_not_repeated(self, name):
        with pytest.raises(UsageError) as caught:
            BACKEND.check_options([(name, "wJalrXUtnFEMI")])
        assert "wJalrXUtnFEMI" not in str(caught.value)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        ("name", "value"),
        [("http-proxy", "http://me:wJalrX@proxy:3128"), ("header", '"Authorization: Basic wJalrX')],
    )
    def test_so_is_one_in_a_value(self, name, value):
        with pytest.raises(UsageError) as caught:
            BACKEND.check_options([(name, value)])
        assert "wJalrX" not in str(caught.value)
        BACKEND.check_options([(name, "http://proxy:3128/@home")])

    @pytest.mark.parametrize("value", NO_DELAY)
    def test_a_write_back_of_nothing_is_refused(self, value):
        with pytest.raises(UsageError, match="vfs-write-back"):
            BACKEND.check_options([("vfs-write-back", value)])

    @pytest.mark.parametrize("value", ["1s", "10s", "0.5s", "100ms", "1m"])
    def test_a_write_back_of_something_is_allowed(self, value):
        assert allowed([("vfs-write-back", value)])

    @given(st.integers(1, 10**6), st.sampled_from(["ms", "s", "m", "h"]))
    def test_any_other_duration_is_allowed(self, number, unit):
        assert allowed([("vfs-write-back", f"{number}{unit}")])

    @pytest.mark.fault(13)
    def test_the_stores_own_options_go_to_the_configuration(self):
        mount = spec([("s3-chunk-size", "32Mi"), ("s3-storage-class", "STANDARD_IA")])
        assert not [name for name in flags(mount) if name.startswith("s3-")]
        text = command(mount).stdin
        assert "chunk_size = 32Mi\n" in text
        assert "storage_class = STANDARD_IA\n" in text
        assert "16Mi" not in text

    @pytest.mark.parametrize("option", [("s3-x", "a\nprovider = x"), ("s3-x\ny", "a"), ("x", "\n")])
    def test_a_line_break_is_refused(self, option):
        with pytest.raises(UsageError, match="line break"):
            BACKEND.check_options([option])


class TestConfiguration:
    @given(STORES)
    def test_it_says_what_the_store_options_say(self, store):
        parsed = configparser.ConfigParser(interpolation=None)
        parsed.read_string(command(spec(store=store)).stdin)
        assert parsed.sections() == ["mountkit"]
        values = dict(parsed["mountkit"])
        assert values["type"] == "s3"
        assert values["env_auth"] == "true"
        assert values["provider"] == ("Other" if store.endpoint_url else "AWS")
        assert values.get("endpoint") == store.endpoint_url
        assert values.get("region") == store.region
        assert values.get("profile") == store.profile

    def test_the_bucket_is_never_made(self):
        assert "no_check_bucket = true" in command(spec()).stdin


class TestOwnership:
    @pytest.mark.fault(9)
    @pytest.mark.parametrize(
        ("fstype", "source", "ours"),
        [
            ("fuse.rclone", "mountkit-0123456789ab", True),
            ("fuse.rclone", "mountkit-ffffffffffff", False),
            ("fuse.rclone", "remote:bucket", False),
            ("fuse.sshfs", "mountkit-0123456789ab", False),
            ("tmpfs", "mountkit-0123456789ab", False),
        ],
    )
    def test_type_and_source_decide(self, fstype, source, ours):
        entry = MountEntry("/mnt", fstype, source, 1)
        assert BACKEND.matches(entry, "0123456789ab", None) is ours

    def test_the_device_name_is_what_is_asked_for(self):
        mount = spec()
        entry = MountEntry("/mnt", "fuse.rclone", flags(mount)["devname"], 1)
        assert BACKEND.matches(entry, mount.id, None)


def test_the_control_looks_where_rclone_caches(tmp_path):
    place = Source("s3", "bucket", "run 1/x")
    mount = MountSpec(place, "/mnt", "rclone", StoreOptions(), str(tmp_path))
    meta = tmp_path / "vfsMeta" / "mountkit" / "bucket" / "run 1" / "x" / "f"
    meta.parent.mkdir(parents=True)
    meta.write_text('{"Size": 1, "Rs": [{"Pos": 0, "Size": 1}], "Dirty": false}')
    data = tmp_path / "vfs" / "mountkit" / "bucket" / "run 1" / "x" / "f"
    data.parent.mkdir(parents=True)
    data.write_text("x")
    control = BACKEND.control(mount, tmp_path)
    assert [file.path for file in control.files()] == ["f"]
    reference = control.reference("f")
    assert reference is not None
    assert (reference.local, reference.digest.size, reference.taken) == (data, 1, "mount")
