"""What is rendered holds against the API's schemas, and what is misspelt is refused by name."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from support.chart import CHART, EXAMPLES, FIRST, HELMS, UNMOUNTED, merged, render, template
from support.chart.definitions import problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The oldest that Chart.yaml takes, and three current ones.
VERSIONS = ("1.30", "1.35", "1.36", "1.37")
MODES = ("devicePlugin", "privileged", "sidecar")
CACHES = ("emptyDir", "ephemeral", "pvc")
EVERYTHING: dict[str, Any] = {
    "fuse": {"plugin": {"enabled": True}},
    "networkPolicy": {"enabled": True},
    "monitoring": {name: {"enabled": True} for name in ("podMonitor", "rules", "dashboard")},
    "credentials": {"existingSecret": "s3", "googleKey": "key.json"},
    "job": {"suspend": True, "activeDeadlineSeconds": 9, "ttlSecondsAfterFinished": 0},
    "cache": {"accessMode": "ReadWriteMany", "storageClassName": "fast"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "envFrom": [{"configMapRef": {"name": "proxy"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    "podSecurityContext": {"supplementalGroups": [3000], "seLinuxOptions": {"type": "spc_t"}},
    "extraCapabilities": ["IPC_LOCK"],
    "initContainers": [{"name": "fetch", "image": "data:1"}],
}


def assert_valid(objects: list[dict[str, Any]], version: str) -> None:
    """Every object holds against the schemas of that version."""
    assert objects
    for each in objects:
        group = each["apiVersion"].partition("/")[0]
        if "." in group and not group.endswith(".k8s.io"):
            assert not problems(each)
        else:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_examples(values: Path, version: str) -> None:
    assert_valid(render(values), version)


@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_mount_with_every_cache(mode: str) -> None:
    for cache, nodes in itertools.product(CACHES, (1, 2)):
        chosen = {"fuse": {"mode": mode}, "cache": {"type": cache}, "nodes": nodes}
        bare = {"fuse": {"mode": mode}, "hostNetwork": True}
        for values in (merged(FIRST, EVERYTHING, chosen), merged(FIRST, bare)):
            objects = render(values)
            for version in VERSIONS:
                assert_valid(objects, version)


def test_a_run_that_mounts_nothing_with_every_cache() -> None:
    for cache in (*({"type": name} for name in CACHES), {"type": "pvc", "existingClaim": "shared"}):
        objects = render(merged(FIRST, EVERYTHING, UNMOUNTED, {"cache": cache}))
        for version in VERSIONS:
            assert_valid(objects, version)


@pytest.mark.parametrize("helm", HELMS)
def test_the_plugin_alone(helm: str) -> None:
    """Whatever else is asked for: a release of its own, which no run takes away."""
    asked = {name: value for name, value in EVERYTHING.items() if name != "fuse"}
    objects = render(merged(asked, {"fuse": {"plugin": {"only": True}}, "nodes": 2}), helm)
    assert [each["kind"] for each in objects] == ["DaemonSet"]
    for version in VERSIONS:
        assert_valid(objects, version)


def test_a_mistake_is_seen() -> None:
    """The checks above would find one: in Kubernetes' own objects and in others'."""
    (job,) = (each for each in render(merged(FIRST, EVERYTHING)) if each["kind"] == "Job")
    job["spec"]["backofLimit"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        assert_valid([job], "1.36")
    found = render(merged(FIRST, EVERYTHING))
    (monitor,) = (each for each in found if each["kind"] == "PodMonitor")
    monitor["spec"]["podMetricsEndpoint"] = []
    assert any("podMetricsEndpoint" in each for each in problems(monitor))


def places(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every group of values whose names the schema knows."""
    free = {"annotations", "labels", "nodeSelector", "requests", "limits", "affinity"}
    yield path
    for name, value in values.items():
        named = isinstance(value, dict) and name not in free
        if named and not name.startswith(("common", "pod")):
            yield from places(value, (*path, name))


VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
PLACES = [*places(VALUES), ("podSecurityContext",), ("monitoring", "podMonitor")]


@pytest.mark.parametrize("helm", HELMS)
def test_a_misspelt_value_is_refused_by_name(helm: str) -> None:
    """All at once: helm names each."""
    wrong: dict[str, Any] = FIRST
    for number, path in enumerate(PLACES):
        value: Any = {f"mispelt{number}": 1}
        for name in reversed(path):
            value = {name: value}
        wrong = merged(wrong, value)
    done = template(wrong, helm)
    assert done.code != 0
    missed = [path for number, path in enumerate(PLACES) if f"mispelt{number}" not in done.text]
    assert not missed, done.text


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"sorce": "s3://bucket/run"}, "sorce"),
        ({"credentials": {"existingSecrets": "s3"}}, "existingSecrets"),
        ({"drain": {"marginSeconds": 0}}, "marginSeconds"),
        ({"nodes": "two"}, "nodes"),
        ({"command": "python train.py"}, "command"),
        ({"fuse": {"mode": "hostPath"}}, "mode"),
        ({"settings": {"stal_timeout": 1}}, "stal_timeout"),
        ({"tolerations": [{"kee": "gpu"}]}, "kee"),
        ({"env": [{"name": "A", "vallue": "b"}]}, "vallue"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_wrong_value(helm: str, values: dict[str, Any], name: str) -> None:
    done = template(merged(FIRST, values), helm)
    assert done.code != 0
    assert name in done.err


def numbers_and_words(
    values: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every value that cannot be left out: helm takes away what is null before the schema looks."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers_and_words(value, (*path, name))
        elif value not in (None, "", []) and not isinstance(value, list):
            yield (*path, name)


@pytest.mark.parametrize("helm", HELMS)
def test_null_is_no_number_no_switch_and_no_name(helm: str) -> None:
    """Of 'nodes: null' a Job of no pods was made, and of 'fuse.mode: null' a privileged one."""
    # A request that is null is none, and so is a label; what the cluster chooses has a test below.
    free = {"requests", "labels", "podSecurityContext"}
    paths = [path for path in numbers_and_words(VALUES) if not free.intersection(path)]
    assert len(paths) > 40
    nulls: dict[str, Any] = FIRST
    for path in paths:
        value: Any = None
        for name in reversed(path):
            value = {name: value}
        nulls = merged(nulls, value)
    done = template(nulls, helm)
    assert done.code != 0
    places = [re.split(r"[^\w]+", line) for line in done.err.splitlines()]
    missed = [path for path in paths if not any({*path} <= {*words} for words in places)]
    assert not missed, done.err


@pytest.mark.parametrize("helm", HELMS)
def test_a_section_that_is_null_is_refused_by_name(helm: str) -> None:
    sections = [name for name, value in VALUES.items() if value and isinstance(value, dict)]
    done = template(merged(FIRST, dict.fromkeys(sections)), helm)
    assert done.code != 0
    assert not [name for name in sections if name not in done.err], done.err


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("name", ["source", "command"])
def test_what_is_needed_is_asked_for(helm: str, name: str) -> None:
    done = template({key: value for key, value in FIRST.items() if key != name}, helm)
    assert done.code != 0
    assert f"{name} is missing" in done.err
    assert f"--set {name}=" in done.err
