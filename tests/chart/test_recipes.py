"""The recipes are the chart's pods, in objects that hold against the schemas of their projects."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support.chart import FIRST, RECIPES, merged, of_kind, render
from support.chart.definitions import problems

SPEC = importlib.util.spec_from_file_location("recipes", Path(__file__).with_name("recipes.py"))
assert SPEC is not None
assert SPEC.loader is not None
recipes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(recipes)


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((RECIPES / name).read_text()))


@pytest.mark.parametrize("name", sorted(recipes.MAKERS))
def test_a_recipe_is_fresh(name: str) -> None:
    assert (RECIPES / name).read_text() == recipes.text_of(name), (
        "Run: PATH=$(.ci/setup-chart):$PATH $(.ci/setup) tests/chart/recipes.py --write"
    )


def test_there_is_no_other_recipe() -> None:
    assert {path.name for path in RECIPES.iterdir()} == {*recipes.MAKERS, "README.md"}


@pytest.mark.parametrize("name", ["jobset.yaml", "trainjob.yaml", "kueue.yaml"])
def test_a_recipe_holds_against_its_schema(name: str) -> None:
    for each in objects(name):
        assert not problems(each)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("jobset.yaml", ("spec", "replicatedJobs")),
        ("trainjob.yaml", ("spec", "template", "spec", "replicatedJobs")),
    ],
)
def test_the_jobs_in_it_are_jobs(name: str, path: tuple[str, ...]) -> None:
    found: Any = objects(name)[0]
    for key in path:
        found = found[key]
    for each in found:
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "run1"},
            "spec": each["template"]["spec"],
        }
        kubernetes_validate.validate(job, "1.36", strict=True)
        pod = job["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == 330
        assert job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 77, 78]


def test_kueue_takes_the_chart_as_its_values_say() -> None:
    (values,) = objects("kueue-values.yaml")
    found = render(merged(FIRST, values))
    job = of_kind(found, "Job")
    # Kueue decides that: an upgrade that said so would stop the pods of a run that it has admitted.
    assert "suspend" not in job["spec"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    # Everything that the pod asks for is in the queue's quota.
    (container,) = job["spec"]["template"]["spec"]["containers"]
    asked = {*container["resources"]["requests"], *container["resources"]["limits"]}
    (group,) = objects("kueue.yaml")[1]["spec"]["resourceGroups"]
    assert asked <= set(group["coveredResources"])
