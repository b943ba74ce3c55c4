"""What a mount that is being made sees, and what becomes of one that is cut short meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from light import checkpoint

from support.assertions import assert_proven

if TYPE_CHECKING:
    from support.proxy import Request
    from support.rig import Bucket, Rig


@pytest.mark.fault(36)
def test_nobody_changes_what_a_run_that_begins_has_just_seen(rig: Rig, bucket: Bucket) -> None:
    proxy = rig.proxy()
    source = f"s3://{bucket.name}/run"
    tried, looking, go = (threading.Event() for _ in range(3))

    def hold(request: Request) -> None:
        if request.method == "DELETE":
            tried.set()
        elif tried.is_set() and not looking.is_set():
            # The first request for what is in the store, once it is known to be well.
            looking.set()
            go.wait(60)

    proxy.rule = hold
    first = rig.begin(source, rig.light("save:10"), endpoint=proxy.url)
    assert looking.wait(60)
    second = rig.run(source, rig.light("save:20"), endpoint=proxy.url)
    go.set()
    answer = first.wait()
    assert second.code == 69, second
    assert "by another process" in second.err
    assert answer.code == 0, answer
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))
    assert bucket.everything("run/checkpoint-20") == {}
