"""Source URLs: what is a place in a bucket, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountkit.errors import UsageError
from mountkit.spec import Source, StoreOptions, mount_id
from mountkit.store import parse

segments = st.text(
    st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=10
).filter(lambda text: text not in {".", ".."})


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/run-1", "bucket", "run-1"),
        ("s3://bucket/run-1/", "bucket", "run-1"),
        ("s3://bucket//a///b/", "bucket", "a/b"),
        ("s3://bucket/with space/ünï?#x", "bucket", "with space/ünï?#x"),
        ("s3://bucket/...", "bucket", "..."),
    ],
)
def test_urls_that_are_places(url, bucket, prefix):
    assert parse(url) == Source("s3", bucket, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket/run",
        "/mnt/run",
        "://bucket",
        "s3://",
        "s3:///run",
        "S4://bucket",
        "gs://",
        "gs://user@bucket/run",
        "hdfs://",
        "hdfs:///x",
        "hdfs://host:port/x",
        "hdfs://host:0/x",
        "hdfs://:8020/x",
        "hdfs://user@host:8020/x",
        "hdfs://host:8020/../x",
        "s3://bucket/../other",
        "s3://bucket/./x",
        "s3://key:secret@bucket/run",
    ],
)
def test_urls_that_are_refused_with_an_example(url):
    with pytest.raises(UsageError) as refused:
        parse(url)
    assert refused.value.exit_code == 2
    assert refused.value.hint


def test_credentials_in_a_url_are_not_repeated():
    with pytest.raises(UsageError) as refused:
        parse("s3://AKID:hunter2@bucket/run")
    assert "hunter2" not in str(refused.value)


@given(st.lists(segments, max_size=4), st.lists(segments, max_size=4))
def test_a_url_says_all_there_is_to_say(above, below):
    source = Source("s3", "bucket", "/".join(above))
    assert parse(source.url) == source
    path = "/".join(below)
    assert source.child(path).url == "/".join([source.url, *below])
    assert source.key(path) == "/".join([*above, *below])
    assert not source.key(path).startswith("/")


texts = st.text(st.characters(exclude_characters="[]"), max_size=60)


@given(texts | texts.map("s3://".__add__))
def test_any_text_is_a_place_or_is_refused(text):
    with contextlib.suppress(UsageError):
        found = parse(text)
        assert parse(found.url) == found


def test_a_mount_is_named_after_what_decides_where_bytes_go():
    source = Source("s3", "bucket", "run")
    options = StoreOptions("http://h", "r", "p")
    name = mount_id(source, "/mnt", options)
    assert name == mount_id(source, "/mnt", StoreOptions("http://h", "other", "p"))
    assert len(name) == 12
    others = {
        mount_id(Source("s3", "bucket", "run2"), "/mnt", options),
        mount_id(source, "/mnt2", options),
        mount_id(source, "/mnt", StoreOptions("http://h2", "r", "p")),
        mount_id(source, "/mnt", StoreOptions("http://h", "r", "p2")),
    }
    assert name not in others
    assert len(others) == 4
