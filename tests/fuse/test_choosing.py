"""``--backend auto``: what it takes, and that it says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from light import checkpoint

from support.assertions import assert_proven

if TYPE_CHECKING:
    from support.rig import Bucket, Rig


def test_it_takes_what_is_there_and_says_why(rig: Rig, bucket: Bucket) -> None:
    # Nothing but this backend's program is to be found.
    _, path = rig.place_program()
    url = f"s3://{bucket.name}/run"
    words = ["run", url, str(rig.target), "--endpoint-url", rig.server.endpoint_url]
    answer = rig.mountkit(*words, "--", *rig.light("save:10"), PATH=path)
    assert answer.code == 0, answer
    assert f"is mounted at {rig.target} with {rig.backend} (" in answer.err
    assert_proven(bucket, "run/checkpoint-10", checkpoint(10))


def test_with_nothing_there_it_says_what_to_install(rig: Rig, bucket: Bucket) -> None:
    program, path = rig.place_program()
    program.unlink()
    words = ["run", f"s3://{bucket.name}/run", str(rig.target), "--", "true"]
    answer = rig.mountkit(*words, PATH=f"{path}:/usr/bin:/bin")
    assert answer.code == 69, answer
    assert "no rclone" in answer.err
    assert "no mount-s3" in answer.err
    assert "pip install" in answer.err
