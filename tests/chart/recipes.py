"""Makes helm/recipes from the chart: the same pods, in other projects' objects.

python tests/chart/recipes.py --write
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.chart import RECIPES, of_kind, render

NAME = "run1"
NODE = "node"
VALUES: dict[str, Any] = {
    "source": "s3://my-checkpoints/run-1",
    "command": ["python", "train.py", "--output_dir", "/mnt/output"],
    "nodes": 4,
    "gpu": {"count": 8},
    "credentials": {"existingSecret": "s3"},
    "cache": {"type": "ephemeral", "size": "500Gi"},
}
#: What belongs to helm, or to another object than these.
LABELS = {"app.kubernetes.io/name": "mountkit", "app.kubernetes.io/instance": NAME}
HEADS = {
    "jobset.yaml": """\
# A run on four nodes as a JobSet (https://jobset.sigs.k8s.io): where one pod fails, all begin anew,
# and resume. Exit codes 2, 77 and 78 end it. The pods are those of the chart.
# Made by tests/chart/recipes.py; change the namespace, the names and the size to yours.
""",
    "trainjob.yaml": """\
# A run on four nodes as a TrainJob of Kubeflow Trainer v2: a runtime that mounts, proves and
# resumes, once in a namespace; and a job that names its source and its command. Kubeflow sets
# PET_*, which torchrun reads. The pods are those of the chart.
# Made by tests/chart/recipes.py; change the namespace, the names and the size to yours.
""",
    "kueue.yaml": """\
# What Kueue needs, for a queue of 32 GPUs that admits runs of the chart: install them with
# -f kueue-values.yaml. FUSE devices are counted, too: Kueue admits nothing that asks for a resource
# that its queue does not have.
# Made by tests/chart/recipes.py; change the namespace, the names and the size to yours.
""",
    "kueue-values.yaml": """\
# Values of the chart for a run that Kueue starts, beside source, command and credentials.
# Made by tests/chart/recipes.py.
""",
}


def job() -> dict[str, Any]:
    """The Job of the chart, with a name and labels of no release."""
    found = of_kind(render(VALUES, release=NAME), "Job")
    spec: dict[str, Any] = copy.deepcopy(found["spec"])
    spec["template"]["metadata"]["labels"] = dict(LABELS)
    pod = spec["template"]["spec"]
    # The release's account; a role goes to the one that is named here.
    pod["serviceAccountName"] = "default"
    # Both have a Service of their own.
    del pod["subdomain"]
    # Any pod that fails ends its Job; the JobSet begins anew.
    del spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]
    spec["backoffLimit"] = 0
    rules = spec["podFailurePolicy"]["rules"]
    spec["podFailurePolicy"]["rules"] = [each for each in rules if each["action"] == "FailJob"]
    return spec


def jobset() -> list[dict[str, Any]]:
    """The JobSet."""
    spec = job()
    (container,) = spec["template"]["spec"]["containers"]
    for variable in container["env"]:
        if variable["name"] == "PET_MASTER_ADDR":
            variable["value"] = f"{NAME}-{NODE}-0-0.{NAME}"
    policy = {
        "maxRestarts": 20,
        "rules": [
            {
                "name": "noRestartMendsIt",
                "action": "FailJobSet",
                "onJobFailureReasons": ["PodFailurePolicy"],
            }
        ],
    }
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": NAME, "labels": dict(LABELS)},
            "spec": {
                "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
                "failurePolicy": policy,
                "replicatedJobs": [{"name": NODE, "replicas": 1, "template": {"spec": spec}}],
            },
        }
    ]


def trainjob() -> list[dict[str, Any]]:
    """The TrainingRuntime and the TrainJob."""
    spec = job()
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    container["name"] = NODE
    pod_metadata = spec["template"]["metadata"]
    del pod_metadata["annotations"]
    for rule in spec["podFailurePolicy"]["rules"]:
        rule["onExitCodes"]["containerName"] = NODE
    own = {"MOUNTKIT_SOURCE"}
    args = container.pop("args")
    container["env"] = [
        each
        for each in container["env"]
        if each["name"] not in own and not each["name"].startswith("PET_")
    ]
    nodes = spec.pop("completions")
    del spec["parallelism"]
    runtime = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": {"name": "mountkit", "labels": {"trainer.kubeflow.org/framework": "torch"}},
        "spec": {
            "mlPolicy": {"numNodes": nodes, "torch": {"numProcPerNode": VALUES["gpu"]["count"]}},
            "template": {
                "spec": {
                    "failurePolicy": jobset()[0]["spec"]["failurePolicy"],
                    "replicatedJobs": [
                        {
                            "name": NODE,
                            "template": {
                                "metadata": {
                                    "labels": {
                                        "trainer.kubeflow.org/trainjob-ancestor-step": "trainer"
                                    }
                                },
                                "spec": spec,
                            },
                        }
                    ],
                }
            },
        },
    }
    train = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": NAME},
        "spec": {
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org",
                "kind": "TrainingRuntime",
                "name": "mountkit",
            },
            "trainer": {
                "numNodes": nodes,
                "args": args,
                "env": [{"name": "MOUNTKIT_SOURCE", "value": VALUES["source"]}],
            },
        },
    }
    return [runtime, train]


def kueue() -> list[dict[str, Any]]:
    """A flavour, a queue of the cluster, and one of a namespace."""
    quotas = {"cpu": 400, "memory": "4000Gi", "nvidia.com/gpu": 32, "squat.ai/fuse": 32}
    resources = [{"name": name, "nominalQuota": amount} for name, amount in quotas.items()]
    api = "kueue.x-k8s.io/v1beta1"
    flavour = {"name": "gpu", "resources": resources}
    group = {"coveredResources": list(quotas), "flavors": [flavour]}
    return [
        {"apiVersion": api, "kind": "ResourceFlavor", "metadata": {"name": "gpu"}},
        {
            "apiVersion": api,
            "kind": "ClusterQueue",
            "metadata": {"name": "gpus"},
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
        {
            "apiVersion": api,
            "kind": "LocalQueue",
            "metadata": {"name": "gpus", "namespace": "default"},
            "spec": {"clusterQueue": "gpus"},
        },
    ]


def kueue_values() -> list[dict[str, Any]]:
    """Kueue suspends a Job that has its label by itself. Its quota has no ephemeral storage."""
    return [
        {
            "job": {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}},
            "cache": {"type": "ephemeral", "size": "500Gi"},
        }
    ]


MAKERS = {
    "jobset.yaml": jobset,
    "trainjob.yaml": trainjob,
    "kueue.yaml": kueue,
    "kueue-values.yaml": kueue_values,
}


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def text_of(name: str) -> str:
    """A recipe, as its file has it."""
    body = yaml.dump_all(MAKERS[name](), Dumper=_Plain, sort_keys=False, width=100)
    return HEADS[name] + body


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    RECIPES.mkdir(exist_ok=True)
    for each in MAKERS:
        (RECIPES / each).write_text(text_of(each))
