"""What the chart says of itself: every value is explained, and the README is made of that."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mountkit._version import __version__
from mountkit.config.settings import Settings
from mountkit.monitoring.metrics import METRICS
from support.chart import CHART, FIRST, ROOT, merged, of_kind, render, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
#: Settings of mountkit that have a value of their own.
OWN = {
    "source",
    "target",
    "endpoint_url",
    "region",
    "cache_dir",
    "grace",
    "node",
    "resume",
    "listen",
    "stopped_code",
}
#: Settings that make no sense in a pod: its home has no profiles; the chart decides about state.
NOT_THERE = {"profile", "state_dir"}


def test_every_value_is_in_the_schema_and_nothing_else() -> None:
    def same(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
        known = set(schema.get("properties", {})) - {"global"}
        if known and values:
            yield from (f"{path}.{name}" for name in known ^ set(values))
        for name, value in values.items():
            if isinstance(value, dict) and name in known:
                yield from same(value, schema["properties"][name], f"{path}.{name}")

    values = yaml.safe_load(VALUES)
    # Both are empty by default, and have names of their own.
    del values["settings"], values["resources"], values["fuse"]["sidecar"]["resources"]
    found = set(same(values, SCHEMA, ""))
    assert found <= {".settings", ".resources", ".fuse.sidecar.resources"}, found


def test_the_schema_is_closed() -> None:
    """Only what Kubernetes itself defines, and maps of strings, may have any name."""
    opened = []

    def look(schema: Any, path: str) -> None:
        if not isinstance(schema, dict):
            return
        kubernetes = (
            "Kubernetes' own" in schema.get("description", "") or path == "/properties/global"
        )
        if schema.get("type") == "object" and not kubernetes:
            extra = schema.get("additionalProperties", True)
            if extra is not False and not isinstance(extra, dict):
                opened.append(path)
        for name, value in schema.items():
            look(value, f"{path}/{name}")

    look(SCHEMA, "")
    assert not opened


def test_settings_are_those_of_mountkit() -> None:
    known = set(SCHEMA["properties"]["settings"]["properties"])
    assert known <= {each.name for each in dataclasses.fields(Settings)}
    assert not known & (OWN | NOT_THERE)


def test_the_readme_is_fresh(tmp_path: Path) -> None:
    copy = tmp_path / "mountkit"
    shutil.copytree(CHART, copy)
    (copy / "README.md").unlink()
    done = run("helm-docs", "-c", str(tmp_path))
    assert done.code == 0, done.text
    assert (copy / "README.md").read_text() == (CHART / "README.md").read_text(), (
        "helm/mountkit/README.md is not what helm-docs makes of values.yaml and README.md.gotmpl. "
        "Run: PATH=$(.ci/setup-chart):$PATH helm-docs --chart-search-root helm"
    )


def test_every_value_is_explained() -> None:
    """helm-docs leaves the last column empty where there is no comment."""
    table = [
        line for line in (CHART / "README.md").read_text().splitlines() if line.startswith("| ")
    ]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    values = [row for row in rows if len(row) == 4 and row[0] not in {"Key", "`fuse.mode`"}]
    assert len(values) > 80
    assert not [row[0] for row in values if not row[3]]


@pytest.mark.parametrize("document", [ROOT / "README.md", CHART / "README.md"])
def test_the_quick_start_runs_as_it_is(document: Path) -> None:
    """The plugin as a release of its own, and then a training that the trainer's image has."""
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(), flags=re.DOTALL)
    (block,) = [each for each in blocks if "helm install fuse" in each]
    lines = block.replace("\\\n", "").splitlines()
    plugin, training = (
        run("helm4", "template", *shlex.split(line, comments=True)[2:])
        for line in lines
        if line.startswith("helm install")
    )
    assert [each["kind"] for each in yaml.safe_load_all(plugin.out)] == ["DaemonSet"]
    job = of_kind(list(yaml.safe_load_all(training.out)), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    python, option, module, target = container["args"]
    assert (python, option, target) == ("python", "-m", "/mnt/output")
    assert find_spec(module) is not None


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert chart["annotations"]["artifacthub.io/license"] in (ROOT / "pyproject.toml").read_text()


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    switched = {"monitoring": {name: {"enabled": True} for name in ("rules", "dashboard")}}
    objects = render(merged(FIRST, switched))
    dashboard = of_kind(objects, "ConfigMap")["data"]["mountkit.json"]
    json.loads(dashboard)
    rules = json.dumps(of_kind(objects, "PrometheusRule"))
    for text in (dashboard, rules):
        asked = set(re.findall(r"mountkit_[a-z_]+", text))
        assert asked
        assert asked <= set(METRICS)
