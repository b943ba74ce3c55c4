"""The schemas of other projects' objects, from their custom resource definitions."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import yaml

from support.chart import crds


@cache
def definitions() -> dict[tuple[str, str], dict[str, Any]]:
    """The schema of each kind, by its API version."""
    found = {}
    for path in crds().glob("*.yaml"):
        spec = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            found[key] = closed(version["schema"]["openAPIV3Schema"])
    return found


def problems(thing: dict[str, Any]) -> list[str]:
    """What is wrong with an object of another project; its metadata is Kubernetes' own."""
    schema = definitions()[thing["apiVersion"], thing["kind"]]
    body = {name: value for name, value in thing.items() if name != "metadata"}
    found = jsonschema.Draft202012Validator(schema).iter_errors(body)
    return [f"{each.json_path}: {each.message}" for each in found]


def closed(schema: Any) -> Any:
    """The same, and strict: the API server silently drops a field that it does not know."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    copy = {name: closed(value) for name, value in schema.items()}
    # Not the properties of that name.
    described = isinstance(copy.get("properties"), dict) and "type" in copy
    if described and not copy.get("x-kubernetes-preserve-unknown-fields"):
        copy.setdefault("additionalProperties", False)
    return copy
