"""The chart under test: where it is, and what helm makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "mountkit"
RECIPES = ROOT / "helm" / "recipes"
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
HELMS = ("helm3", "helm4")
#: What a user gives who tries it for the first time.
FIRST: dict[str, Any] = {
    "source": "s3://bucket/run-1",
    "command": ["python", "train.py"],
    "credentials": {"existingSecret": "s3"},
}
#: The same for a run that mounts nothing, and saves into a shared volume.
UNMOUNTED: dict[str, Any] = {
    "source": "",
    "nodes": 1,
    "fuse": {"mode": "none"},
    "volume": {"existingClaim": "shared", "subPath": "run-1"},
}
SECONDS = 60


def crds() -> Path:
    """The schemas of other projects' objects, beside the programs."""
    found = shutil.which("helm4")
    assert found is not None
    return Path(found).parent / "crds"


@dataclass(frozen=True)
class Ended:
    """A command that came to its end."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return f"{self.out}\n{self.err}"


def run(*words: str, text: str | None = None, directory: Path = ROOT) -> Ended:
    """Run a command to its end."""
    done = subprocess.run(
        words,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        cwd=directory,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """Values laid over each other, as helm does it."""
    whole: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            before = whole.get(name)
            both = isinstance(value, dict) and isinstance(before, dict)
            whole[name] = merged(before, value) if both else value
    return whole


def template(values: dict[str, Any] | Path, helm: str = "helm4", release: str = "run1") -> Ended:
    """What ``helm template`` says."""
    given = values.read_text() if isinstance(values, Path) else json.dumps(values)
    words = ("template", release, str(CHART), "--namespace", "training", "--values", "-")
    return run(helm, *words, text=given)


def render(
    values: dict[str, Any] | Path, helm: str = "helm4", release: str = "run1"
) -> list[dict[str, Any]]:
    """The objects of a release."""
    done = template(values, helm, release)
    assert done.code == 0, done.text
    return [each for each in yaml.safe_load_all(done.out) if each]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def pod_specs(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The specification of each pod, whatever makes it."""
    return [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] in {"Pod", "Job", "DaemonSet"}
    ]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def env(container: dict[str, Any]) -> dict[str, Any]:
    """The variables of a container that have a plain value."""
    return {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}
