"""What holds for any values: of the grace, of privileges, of secrets."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import yaml
from hypothesis import Phase, given
from hypothesis import strategies as st

from support.chart import (
    EXAMPLES,
    FIRST,
    UNMOUNTED,
    containers,
    env,
    merged,
    of_kind,
    pod_specs,
    render,
)

EXAMPLE_COUNT = 32
#: In every place where the values may have a secret's name, and nowhere else.
SECRET = "the-name-of-a-secret"
SECONDS = st.integers(1, 10**7)
VALUES = st.fixed_dictionaries(
    {
        "fuse": st.fixed_dictionaries(
            {
                "mode": st.sampled_from(["devicePlugin", "privileged", "sidecar", "none"]),
                "plugin": st.fixed_dictionaries({"enabled": st.booleans()}),
                "sidecar": st.fixed_dictionaries({"commandSeconds": SECONDS}),
            }
        ),
        "drain": st.fixed_dictionaries(
            {"deadlineSeconds": SECONDS, "marginSeconds": st.integers(5, 10**4)}
        ),
        "nodes": st.integers(1, 20),
        "gpu": st.fixed_dictionaries({"count": st.integers(0, 8)}),
        "cache": st.fixed_dictionaries(
            {
                "type": st.sampled_from(["emptyDir", "ephemeral", "pvc"]),
                "accessMode": st.just("ReadWriteMany"),
                "existingClaim": st.sampled_from(["", "shared"]),
            }
        ),
        "credentials": st.sampled_from(
            [{}, {"existingSecret": SECRET}, {"existingSecret": SECRET, "googleKey": "key.json"}]
        ),
        "health": st.fixed_dictionaries({"probes": st.booleans()}),
        "networkPolicy": st.fixed_dictionaries({"enabled": st.booleans()}),
        "podSecurityContext": st.fixed_dictionaries({"runAsUser": st.integers(1, 70000)}),
    }
).map(lambda values: merged(values, UNMOUNTED) if values["fuse"]["mode"] == "none" else values)
#: What a volume is, where Pod Security's level is "restricted".
HARMLESS = {"configMap", "emptyDir", "ephemeral", "persistentVolumeClaim", "secret"}


def privileged(spec: dict[str, Any]) -> set[str]:
    return {
        each["name"]
        for each in containers(spec)
        if each.get("securityContext", {}).get("privileged", False)
    }


# Nothing is shrunk: each example runs helm.
@hypothesis.settings(max_examples=EXAMPLE_COUNT, phases=(Phase.explicit, Phase.generate))
@given(VALUES)
def test_for_any_values(values: dict[str, Any]) -> None:
    base = {name: value for name, value in FIRST.items() if name != "credentials"}
    objects = render(merged(base, values))
    job = of_kind(objects, "Job")["spec"]
    spec = job["template"]["spec"]
    mode = values["fuse"]["mode"]

    # The grace of the pod is above the deadline of the drain, whoever has it.
    mounting = [each for each in containers(spec) if "MOUNTKIT_GRACE" in env(each)]
    assert mounting
    for each in mounting:
        grace = int(env(each)["MOUNTKIT_GRACE"])
        if mode == "sidecar" and each["name"] == "trainer":
            # It mounts nothing, and what does ends after it.
            assert grace <= spec["terminationGracePeriodSeconds"] - values["drain"]["marginSeconds"]
        else:
            assert grace == values["drain"]["deadlineSeconds"]
        assert spec["terminationGracePeriodSeconds"] >= values["drain"]["deadlineSeconds"] + 5

    # torchrun ends its ranks before mountkit ends torchrun, which has 60 % of the grace.
    told = env(next(each for each in containers(spec) if each["name"] == "trainer"))
    ranks = int(told["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"])
    assert ranks == 1 or ranks < int(told["MOUNTKIT_GRACE"]) * 0.6

    # Nothing is privileged but what was asked for by name.
    expected = {
        "devicePlugin": set(),
        "privileged": {"trainer", "doctor"},
        "sidecar": {"preflight", "mountkit", "doctor"},
        "none": set(),
    }[mode]
    if values["fuse"]["plugin"]["enabled"] and mode != "none":
        expected = expected | {"fuse-device-plugin"}
    assert set().union(*map(privileged, pod_specs(objects))) == expected

    # Who is not privileged has SYS_ADMIN at most, and only to mount.
    for pod in pod_specs(objects):
        for each in containers(pod):
            context = each["securityContext"]
            assert context["readOnlyRootFilesystem"]
            if not context["privileged"]:
                assert context["capabilities"]["drop"] == ["ALL"]
                mounts = mode == "devicePlugin"
                assert context["capabilities"].get("add", []) == (["SYS_ADMIN"] if mounts else [])
                assert context["allowPrivilegeEscalation"] is mounts
    assert spec["securityContext"]["runAsNonRoot"]
    assert not any("hostPath" in volume for volume in spec["volumes"])

    # Where nothing is mounted, Pod Security's level "restricted" takes each pod.
    if mode == "none":
        for pod in pod_specs(objects):
            assert pod["securityContext"]["runAsNonRoot"]
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for each in containers(pod):
                assert "appArmorProfile" not in each["securityContext"]
                assert set(each["resources"].get("limits", {})) <= {"nvidia.com/gpu"}
            for volume in pod["volumes"]:
                assert set(volume) - {"name"} <= HARMLESS

    # Each exit code has one rule, and each rule names a container that there is.
    names = {each["name"] for each in containers(spec)}
    asked = [
        (rule["onExitCodes"]["containerName"], code)
        for rule in job["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
        for code in rule["onExitCodes"]["values"]
    ]
    assert len(asked) == len(set(asked))
    assert {name for name, _ in asked} <= names

    # One owner of the run: each node is told which one it is, by all that reads it.
    if values["nodes"] > 1:
        for each in mounting:
            assert "MOUNTKIT_NODE" in {variable["name"] for variable in each["env"]}
    for each in containers(spec):
        given_names = [variable["name"] for variable in each.get("env", [])]
        assert len(given_names) == len(set(given_names))

    # Every mount has its volume, and no claim has two: its pod would never start.
    for pod in pod_specs(objects):
        volumes = {volume["name"] for volume in pod["volumes"]}
        claims = [
            str(volume["persistentVolumeClaim"])
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        assert len(claims) == len(set(claims))
        for each in containers(pod):
            assert {mount["name"] for mount in each["volumeMounts"]} <= volumes

    # Secrets are referred to, and the chart makes none.
    assert not [each for each in objects if each["kind"] == "Secret"]


def test_no_secret_in_plain_in_any_example() -> None:
    words = ("secret", "token", "password", "key")
    for path in EXAMPLES:
        for spec in pod_specs(render(path)):
            for each in containers(spec):
                named = {name for name in env(each) if any(word in name.lower() for word in words)}
                assert not named, (path, named)
        assert "AKIA" not in path.read_text()


def test_defaults_have_no_secret() -> None:
    text = json.dumps(render(FIRST))
    assert '"Secret"' not in text
    assert yaml.safe_load(EXAMPLES[0].read_text())["source"] not in text
