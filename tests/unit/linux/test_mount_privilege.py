"""Why nothing can be mounted: by what the kernel says of this process."""

from __future__ import annotations

import pytest

from mountkit.linux import mount_privilege

ALL = "000001ffffffffff"
# What Docker leaves without --cap-add, and with SYS_ADMIN.
DOCKER = "00000000a80425fb"
WITH_ADMIN = "00000000a82425fb"
NONE = "0000000000000000"


def status(effective: str, bounding: str, no_new_privileges: int = 0) -> str:
    return (
        f"Name:\tpython\nCapInh:\t{NONE}\nCapPrm:\t{effective}\nCapEff:\t{effective}\n"
        f"CapBnd:\t{bounding}\nCapAmb:\t{NONE}\nNoNewPrivs:\t{no_new_privileges}\nSeccomp:\t2\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(status(ALL, ALL), id="root of a machine"),
        pytest.param(status(NONE, ALL), id="user of a machine"),
        pytest.param(status(WITH_ADMIN, WITH_ADMIN), id="root of a container"),
        pytest.param(status(NONE, WITH_ADMIN), id="user of a container"),
        # It has what it needs, and gains nothing.
        pytest.param(status(WITH_ADMIN, WITH_ADMIN, 1), id="root without new privileges"),
        pytest.param("", id="a kernel that says nothing"),
    ],
)
@pytest.mark.parametrize("profile", ["", "unconfined\n", "docker-default (complain)\n"])
def test_nothing_is_in_the_way(text: str, profile: str) -> None:
    assert mount_privilege.judge(text, profile) is None


@pytest.mark.parametrize("effective", [NONE, DOCKER])
def test_the_capability_is_missing(effective: str) -> None:
    found = mount_privilege.judge(status(effective, DOCKER, 1), "docker-default (enforce)\n")
    assert found is not None
    assert "CAP_SYS_ADMIN" in found.what
    assert "--cap-add SYS_ADMIN" in found.hint


def test_no_new_privileges() -> None:
    found = mount_privilege.judge(status(NONE, WITH_ADMIN, 1), "")
    assert found is not None
    assert "no-new-privileges" in found.hint
    assert "allowPrivilegeEscalation" in found.hint


def test_apparmor() -> None:
    found = mount_privilege.judge(status(NONE, WITH_ADMIN), "docker-default (enforce)\n")
    assert found is not None
    assert "docker-default may" in found.what
    assert "apparmor=unconfined" in found.hint


def test_it_asks_the_kernel() -> None:
    # Whatever the answer is here: it is read without an error.
    mount_privilege.obstacle()


def test_a_user_without_a_name() -> None:
    found = mount_privilege.judge(status(NONE, WITH_ADMIN), "", nameless=23456)
    assert found is not None
    assert "user 23456 has none" in found.what
    assert "/etc/passwd" in found.hint
