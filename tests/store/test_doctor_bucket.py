"""The doctor on a bucket: each right by itself, what else can be wrong, and nothing left behind."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from mountkit.demo.s3_server import EmbeddedS3
from mountkit.doctor.findings import Finding, diagnose
from mountkit.doctor.s3 import bucket, rights
from mountkit.doctor.store_check import SECONDS
from mountkit.names import LEASE_NAME
from mountkit.spec import Source, StoreOptions
from mountkit.store import checksums
from mountkit.store.s3.store import S3Store
from support.leases import lease_of
from support.stores import BUCKET, EMPTY_LIST, REGION, Answer, find_rclone

NAME = ".mountkit-doctor-test"
ORDER = [name for name in bucket.TITLES if name != "leftover"]
RIGHTS = {
    "list": "s3:ListBucket",
    "put": "s3:PutObject",
    "get": "s3:GetObject",
    "delete": "s3:DeleteObject",
    "abort": "s3:AbortMultipartUpload",
}
CRC = checksums.digest_bytes(rights.BODY).values["crc64nvme"]
MD5 = hashlib.md5(rights.BODY).hexdigest()


@dataclass
class Scripted:
    """A store for the scripted server: it knows keys and rights, and every body is the doctor's."""

    deny: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    uploads: set[str] = field(default_factory=set)
    region: str = ""
    #: Refuse what is signed for another region, as AWS does.
    strict: bool = False
    crc: str = "checked"
    #: The conditions of a write that it holds to; "refused" for one that takes none.
    conditions: tuple[str, ...] = ("if-none-match", "if-match")
    body: bytes = rights.BODY
    wait: dict[str, float] = field(default_factory=dict)

    def __call__(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        parts = urlsplit(path)
        query = parse_qs(parts.query, keep_blank_values=True)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").lstrip("/")
        signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/", headers.get("Authorization", ""))
        if self.strict and signed and signed[1] != self.region:
            extra = f"<Region>{self.region}</Region>"
            return Answer.error(400, "AuthorizationHeaderMalformed", "wrong region", extra)
        what = self._what(method, key, query)
        time.sleep(self.wait.get(what, 0))
        if what in self.deny:
            return Answer.error(403, "AccessDenied", "not you")
        answer = getattr(self, f"_{what}")(method, key, query, headers)
        if self.region:
            answer.headers["x-amz-bucket-region"] = self.region
        return answer

    @staticmethod
    def _what(method: str, key: str, query: dict) -> str:
        if not key:
            return "list"
        if "uploadId" in query:
            return "abort"
        return {"GET": "get", "HEAD": "get", "PUT": "put", "POST": "put", "DELETE": "delete"}[
            method
        ]

    def _list(self, method: str, key: str, query: dict, headers: dict) -> Answer:
        below = query.get("prefix", [""])[0]
        items = "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in sorted(self.keys)
            if key.startswith(below)
        )
        xml = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        return Answer(200, xml.encode(), {"Content-Type": "application/xml"})

    def _put(self, method: str, key: str, query: dict, headers: dict) -> Answer:
        if method == "POST":
            self.uploads.add(key)
            xml = "<InitiateMultipartUploadResult><UploadId>u1</UploadId>"
            return Answer(200, f"{xml}</InitiateMultipartUploadResult>".encode())
        sent = {name.lower(): value for name, value in headers.items()}
        crc = sent.get("x-amz-checksum-crc64nvme")
        if crc and self.crc == "refused":
            return Answer.error(400, "InvalidRequest", "no such checksum")
        if crc and crc != CRC and self.crc == "checked":
            return Answer.error(400, "BadDigest", "other bytes")
        asked = {"if-none-match", "if-match"} & sent.keys()
        if asked and "refused" in self.conditions:
            return Answer.error(501, "NotImplemented", "no conditions")
        if asked & {*self.conditions} and (
            key in self.keys if "if-none-match" in sent else sent["if-match"] != '"opaque"'
        ):
            return Answer.error(412, "PreconditionFailed", "it is another one")
        self.keys.add(key)
        return Answer(headers={"ETag": '"opaque"'})

    def _get(self, method: str, key: str, query: dict, headers: dict) -> Answer:
        if key not in self.keys:
            return Answer.error(404, "NoSuchKey", "gone")
        told = {"ETag": '"opaque"' if self.crc == "opaque" else f'"{MD5}"'}
        if self.crc in {"checked", "repeated"} and key.endswith("/checksum"):
            told["x-amz-checksum-crc64nvme"] = CRC
            told["x-amz-checksum-type"] = "FULL_OBJECT"
        return Answer(200, self.body, told)

    def _delete(self, method: str, key: str, query: dict, headers: dict) -> Answer:
        self.keys.discard(key)
        return Answer(204)

    def _abort(self, method: str, key: str, query: dict, headers: dict) -> Answer:
        if key not in self.uploads:
            return Answer.error(404, "NoSuchUpload", "no such upload")
        self.uploads.discard(key)
        return Answer(204)


def examine(store: S3Store, seconds: float = SECONDS) -> dict[str, Finding]:
    """The findings by name; every failure has a way out."""
    findings = bucket.examine(store, NAME, seconds)
    assert [finding.name for finding in findings if finding.name != "leftover"] == ORDER
    for finding in findings:
        assert finding.detail
        assert bool(finding.exit_code) == (finding.status == "failed")
        assert finding.hint or finding.status != "failed"
    return {finding.name: finding for finding in findings}


def at(endpoint: str, name: str = BUCKET, **options) -> S3Store:
    return S3Store(
        Source("s3", name, "run"),
        StoreOptions(endpoint, **{"region": REGION, **options}),
        patience=9,
    )


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.status for name, finding in found.items() if finding.status != "ok"}


def first(found: dict[str, Finding]) -> tuple[str, int]:
    diagnosis = diagnose(found.values(), (), "x", frozenset(), source="s3://bucket/run")
    return diagnosis.verdict, diagnosis.exit_code


@pytest.fixture
def script(scripted) -> Scripted:
    scripted.script = Scripted()
    return scripted.script


@pytest.fixture
def store(scripted, script) -> S3Store:
    return at(scripted.url)


def test_a_store_that_can_be_used(each_place):
    found = examine(at(each_place.store.options.endpoint_url))
    assert set(statuses(found).values()) <= {"warning"}
    assert first(found) == ("This run will save.", 0)
    assert (
        list(S3Store(Source("s3", BUCKET, "run"), each_place.store.options).list(markers=True))
        == []
    )


def test_an_upload_that_was_begun_is_taken_back(moto):
    examine(at(moto.store.options.endpoint_url))
    assert "Uploads" not in moto.client.list_multipart_uploads(Bucket=BUCKET)


def test_everything_is_tried_below_one_throw_away_prefix(scripted, script, store):
    found = examine(store)
    assert statuses(found) == {}
    changed = {
        unquote(urlsplit(path).path) for method, path in scripted.requests if method != "GET"
    }
    assert changed
    assert all(path.startswith(f"/{BUCKET}/run/{NAME}/") for path in changed)
    assert script.keys == set()
    assert script.uploads == set()
    deleted = [path for method, path in scripted.requests if method == "DELETE" and "?" not in path]
    assert any(path.endswith("/put") for path in deleted)
    assert not any(path.endswith(rights.NOTHING) for path in deleted)
    for name, right in RIGHTS.items():
        assert found[name].detail == right


@pytest.mark.fault(19)
def test_a_read_only_credential(script, store):
    script.deny = {"put", "delete", "abort"}
    found = examine(store)
    assert statuses(found) == {
        "put": "failed",
        "delete": "failed",
        "abort": "warning",
        "checksum": "skipped",
        "conditions": "skipped",
    }
    verdict, code = first(found)
    assert code == 77
    assert verdict.startswith("This run will not save: s3:PutObject is not allowed on s3://bucket/")
    assert "AccessDenied" in verdict
    assert "mountkit doctor s3://bucket/run" in verdict


@pytest.mark.fault(19)
@pytest.mark.parametrize("name", ["list", "put", "get", "delete"])
def test_each_missing_right_is_named_and_the_others_are_tried(script, store, name):
    script.deny = {name}
    found = examine(store)
    failed = [finding.name for finding in found.values() if finding.status == "failed"]
    assert failed == ([name, "checksum"] if name == "get" else [name])
    assert found[name].exit_code == 77
    assert RIGHTS[name] in found[name].detail
    assert first(found)[1] == 77


@pytest.mark.fault(19)
def test_who_may_not_abort_still_saves_and_nothing_is_begun(script, store):
    script.deny = {"abort"}
    found = examine(store)
    assert statuses(found) == {"abort": "warning"}
    assert "s3:AbortMultipartUpload" in found["abort"].detail
    assert "paid for" in found["abort"].detail
    assert script.uploads == set()


def test_what_cannot_be_deleted_is_named(script, store):
    script.deny = {"delete"}
    found = examine(store)
    assert f"s3://bucket/run/{NAME}/put" in found["leftover"].detail
    assert f"s3://bucket/run/{NAME}/checksum" in found["leftover"].detail
    assert f"aws s3 rm --recursive s3://bucket/run/{NAME}" in found["leftover"].hint
    assert {key.rpartition("/")[2] for key in script.keys} == {"put", "checksum", "condition"}


def test_who_may_neither_write_nor_list_is_not_accused_of_reading(script, store):
    script.deny = {"put", "list", "get"}
    found = examine(store)
    assert found["get"].status == "skipped"
    assert found["list"].status == "failed"


@pytest.mark.fault(19)
def test_a_store_that_serves_read_only(tmp_path, monkeypatch):
    with EmbeddedS3(tmp_path, buckets=[BUCKET], binary=find_rclone(), read_only=True) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        found = examine(at(server.endpoint_url))
    assert found["put"].exit_code == 77
    assert "s3:PutObject" in found["put"].detail
    assert "read-only" in found["put"].detail


@pytest.mark.fault(19)
def test_a_wrong_region_that_boto3_would_follow(script, store):
    script.region, script.strict = "eu-west-3", True
    found = examine(store)
    assert found["region"].status == "failed"
    verdict, code = first(found)
    assert code == 78
    assert "eu-west-3" in verdict
    assert REGION in verdict
    assert "--region eu-west-3" in verdict
    assert found["put"].status == "skipped"
    assert script.keys == set()


@pytest.mark.fault(19)
@pytest.mark.parametrize("status", [301, 400])
def test_a_wrong_region_that_nobody_can_follow(scripted, store, status):
    code = {301: "PermanentRedirect", 400: "AuthorizationHeaderMalformed"}[status]
    scripted.script = lambda *_: Answer.error(
        status, code, "elsewhere", "<Region>eu-west-3</Region>", x_amz_bucket_region="eu-west-3"
    )
    found = examine(store)
    verdict, exit_code = first(found)
    assert exit_code == 78
    assert f"in region eu-west-3, and the requests are for {REGION}" in verdict
    assert "--region eu-west-3" in verdict


@pytest.mark.fault(19)
def test_a_wrong_region_that_the_store_does_not_tell(scripted, store):
    scripted.script = lambda *_: Answer.error(301, "PermanentRedirect", "elsewhere")
    found = examine(store)
    assert first(found)[1] == 78
    assert found["region"].status == "failed"


def test_the_right_region(script, store):
    script.region, script.strict = REGION, True
    assert statuses(examine(store)) == {}


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("ahead", "status", "word"), [(300, "warning", "5 min behind"), (-870, "failed", "ahead of")]
)
def test_clock_skew_is_measured_by_the_stores_own_clock(
    script, store, monkeypatch, ahead, status, word
):
    real = BaseHTTPRequestHandler.date_time_string
    monkeypatch.setattr(
        BaseHTTPRequestHandler, "date_time_string", lambda self: real(self, time.time() + ahead)
    )
    found = examine(store)
    assert found["clock"].status == status
    assert word in found["clock"].detail
    assert statuses(found) == {"clock": status}


@pytest.mark.fault(35)
def test_a_request_refused_for_its_time(scripted, store, monkeypatch):
    real = BaseHTTPRequestHandler.date_time_string
    monkeypatch.setattr(
        BaseHTTPRequestHandler, "date_time_string", lambda self: real(self, time.time() + 3600)
    )
    scripted.script = lambda *_: Answer.error(403, "RequestTimeTooSkewed", "too large")
    verdict, code = first(examine(store))
    assert code == 78
    assert "The clock of this machine is 1 h behind" in verdict


@pytest.mark.fault(18)
class TestCredentials:
    def test_none(self, rclone, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        found = examine(at(rclone.store.options.endpoint_url))
        assert (found["credentials"].status, found["credentials"].exit_code) == ("failed", 78)
        assert "AWS_ACCESS_KEY_ID" in found["credentials"].hint
        assert set(statuses(found)) == set(ORDER)

    def test_a_profile_that_is_not_there(self, rclone):
        found = examine(at(rclone.store.options.endpoint_url, profile="nobody"))
        assert found["credentials"].exit_code == 78
        assert "nobody" in found["credentials"].detail

    @pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    def test_those_the_store_refuses(self, rclone, monkeypatch, name):
        monkeypatch.setenv(name, "wrong-and-still-secret")
        found = examine(at(rclone.store.options.endpoint_url))
        assert (found["credentials"].status, found["credentials"].exit_code) == ("failed", 77)
        assert "wrong-and-still-secret" not in str(found)

    def test_those_that_have_expired_by_the_stores_word(self, scripted, store):
        scripted.script = lambda *_: Answer.error(400, "ExpiredToken", "expired")
        found = examine(store)
        assert found["credentials"].exit_code == 77
        assert "ExpiredToken" in found["credentials"].detail

    def test_those_that_have_expired_by_their_own(self, script, store, monkeypatch):
        monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-nobody-may-print")
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")
        found = examine(store)
        assert found["credentials"].exit_code == 77
        assert "have expired" in found["credentials"].detail

    def test_those_that_will(self, script, store, monkeypatch):
        monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-nobody-may-print")
        found = examine(store)
        assert statuses(found) == {"credentials": "warning"}
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
        found = examine(at(store.options.endpoint_url))
        assert "until 2099-01-01 00:00 UTC" in found["credentials"].detail
        assert "token" not in str(found)

    def test_a_store_that_quotes_the_secret(self, scripted, store):
        secret = "a-secret-nobody-may-print"
        scripted.script = lambda *_: Answer.error(403, "SignatureDoesNotMatch", f"sent {secret}")
        assert secret not in str(examine(store))


@pytest.mark.fault(19)
def test_a_bucket_that_is_not_there(each_place):
    found = examine(at(each_place.store.options.endpoint_url, "no-such-bucket"))
    assert found["bucket"].exit_code == 78
    assert "There is no bucket 'no-such-bucket'" in found["bucket"].detail
    assert found["put"].detail == "Not tried: see bucket."


@pytest.mark.parametrize("url", ["ftp://store.example", "http://me:hunter2@127.0.0.1:1"])
def test_an_endpoint_that_is_none(script, store, url):
    found = examine(at(url))
    assert found["bucket"].exit_code == 78
    assert "hunter2" not in str(found)


@pytest.mark.fault(33)
def test_a_store_that_is_busy(scripted, store):
    scripted.script = lambda *_: Answer.error(503, "SlowDown", "reduce your rate")
    found = examine(store)
    assert found["bucket"].exit_code == 69
    assert "mountkit doctor s3://bucket/run" in found["bucket"].hint


@pytest.mark.fault(34)
class TestTime:
    def test_nobody_listens(self, script):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            found = examine(at(f"http://127.0.0.1:{free.getsockname()[1]}"))
        assert found["bucket"].exit_code == 69

    def test_a_black_hole(self, script):
        with socket.socket() as hole:
            hole.bind(("127.0.0.1", 0))
            hole.listen(16)
            found = examine(at(f"http://127.0.0.1:{hole.getsockname()[1]}"), seconds=1.5)
        assert found["bucket"].exit_code == 69
        assert "no answer in 1.5 s" in found["bucket"].detail
        assert found["put"].status == "skipped"

    def test_a_store_that_stops_answering_in_between(self, script, store):
        script.wait["put"] = 30
        found = examine(store, seconds=1.5)
        assert found["list"].status == "ok"
        assert found["put"].exit_code == 69
        assert "no answer in 1.5 s" in found["put"].detail
        assert f"s3://bucket/run/{NAME}/put" in found["leftover"].detail

    def test_the_thread_left_behind_keeps_no_process(self, script, store):
        script.wait["list"] = 30
        examine(store, seconds=0.5)
        left = [thread for thread in threading.enumerate() if thread.name == "mountkit-within"]
        assert left
        assert all(thread.daemon for thread in left)


class TestChecksums:
    def test_one_that_is_checked(self, script, store):
        assert "CRC64NVME, and checks it" in examine(store)["checksum"].detail

    def test_one_that_is_only_repeated(self, script, store):
        script.crc = "repeated"
        found = examine(store)
        assert statuses(found) == {"checksum": "warning"}
        assert script.keys == set()

    @pytest.mark.parametrize("crc", ["refused", "forgotten"])
    def test_a_store_that_does_not_know_it(self, script, store, crc):
        script.crc = crc
        found = examine(store)
        assert statuses(found) == {}
        assert "MD5" in found["checksum"].detail

    def test_a_store_that_tells_nothing(self, script, store):
        script.crc = "opaque"
        found = examine(store)
        assert statuses(found) == {"checksum": "warning"}
        assert "read back" in found["checksum"].detail

    def test_bytes_that_come_back_changed(self, script, store):
        script.body = rights.BODY[:-1] + b"?"
        found = examine(store)
        assert found["get"].exit_code == 74
        assert "other bytes" in found["get"].detail


def test_an_empty_answer_is_no_bucket(scripted, store):
    """A server that says yes to everything, such as a login page: what was written is not there."""
    scripted.script = lambda method, *_: EMPTY_LIST if method == "GET" else Answer()
    found = examine(store)
    assert found["get"].status == "failed"


@pytest.mark.fault(36)
class TestOneWriterARun:
    def test_a_store_that_enforces_it(self, script, store):
        found = examine(store)
        assert found["conditions"].status == "ok"
        assert found["lease"].detail == "nobody has it"

    @pytest.mark.parametrize(
        ("held", "named"),
        [
            ((), ["If-None-Match", "If-Match"]),
            (("if-match",), ["If-None-Match"]),
            (("if-none-match",), ["If-Match"]),
            (("refused",), ["NotImplemented"]),
        ],
    )
    def test_one_that_does_not(self, script, store, held, named):
        script.conditions = held
        found = examine(store)
        assert statuses(found) == {"conditions": "warning"}
        assert "advisory" in found["conditions"].detail
        for word in named:
            assert word in found["conditions"].detail
        assert first(found) == ("This run will save.", 0)

    def test_the_servers_at_hand_tell_their_kind(self, each_place):
        found = examine(at(each_place.store.options.endpoint_url))
        expected = {"moto": "ok", "rclone": "warning"}[each_place.kind]
        assert found["conditions"].status == expected

    def test_who_has_the_run(self, moto):
        store = at(moto.store.options.endpoint_url)
        try:
            made = lease_of()
            store.put(LEASE_NAME, made.to_bytes())
            found = examine(store)["lease"]
            assert found.status == "warning"
            assert "process 4711 on node-b" in found.detail
            store.put(LEASE_NAME, replace(made, released=True).to_bytes())
            assert examine(store)["lease"].detail == "nobody has it; the last epoch was 1"
            for data, code in ((b"notes", 78), (b'{"format": 9}', 69)):
                store.put(LEASE_NAME, data)
                assert examine(store)["lease"].exit_code == code
        finally:
            store.delete([LEASE_NAME])
