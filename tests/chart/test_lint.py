"""What the tools of the trade say: helm, helm-unittest, kube-score."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from support.chart import CHART, EXAMPLES, FIRST, HELMS, render, run, template

if TYPE_CHECKING:
    from pathlib import Path

# What kube-score is not asked about, and why.
PASSED_OVER = {
    "container-ephemeral-storage-request-and-limit": "a limit would have the pod evicted, with its "
    "cache, for a checkpoint that is larger than somebody thought",
    "container-image-pull-policy": "tags are not moved; what is there already need not be pulled",
    "container-resources": "the limit of the CPU is left out: it would only slow the training down",
    "container-security-context-user-group-id": "1000 is the image's user, and owns its files",
    "pod-networkpolicy": "it is a value, for it needs to know the store",
}


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("helm", HELMS)
def test_helm_lint(helm: str, values: Path) -> None:
    done = run(helm, "lint", "--strict", str(CHART), "--values", str(values))
    assert done.code == 0, done.text
    assert "[WARNING]" not in done.text
    assert "[ERROR]" not in done.text


@pytest.mark.parametrize("values", [FIRST, *EXAMPLES], ids=str)
def test_both_helms_render_the_same(values: Path | dict[str, object]) -> None:
    first, second = (template(values, helm) for helm in HELMS)
    assert first.code == second.code == 0, first.text + second.text
    assert list(yaml.safe_load_all(first.out)) == list(yaml.safe_load_all(second.out))


def test_no_line_ends_in_a_space() -> None:
    for values in (FIRST, *EXAMPLES):
        assert not [line for line in template(values).out.splitlines() if line != line.rstrip()]


def test_helm_unittest() -> None:
    suites = list((CHART / "tests").glob("*_test.yaml"))
    assert len(suites) >= 20
    done = run(
        "helm-unittest", "--strict", "--color=false", "--file", "tests/*_test.yaml", str(CHART)
    )
    assert done.code == 0, done.text
    assert f"{len(suites)} passed, {len(suites)} total" in done.out


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_kube_score(values: Path) -> None:
    # The plugin's DaemonSet is privileged, as its authors ship it; test_properties knows it.
    objects = [each for each in render(values) if each["kind"] != "DaemonSet"]
    ignored = [word for name in PASSED_OVER for word in ("--ignore-test", name)]
    text = yaml.safe_dump_all(objects)
    done = run("kube-score", "score", "--output-format", "json", *ignored, "-", text=text)
    assert done.out, done.text
    bad = []
    for scored in json.loads(done.out):
        for check in scored["checks"]:
            if not check["skipped"] and check["grade"] < 5:
                comments = [each["summary"] for each in check["comments"] or []]
                bad.append((scored["object_name"], check["check"]["id"], comments))
    expected = {"container-security-context-privileged"}
    asked = yaml.safe_load(values.read_text()).get("fuse", {}).get("mode", "devicePlugin")
    allowed = expected if asked in {"privileged", "sidecar"} else set()
    assert not [each for each in bad if each[1] not in allowed], bad
