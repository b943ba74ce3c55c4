"""One cluster for all tests, with a store in it; a namespace and a bucket for each test."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.cluster import Cluster
from support.cluster.cluster import IMAGE, PLUGIN_IMAGE, missing, poll
from support.cluster.release import CHART, RUN, SECRET, Release, Store, Watcher, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PORT = 7070
#: For one test, with what it needs of the session's fixtures.
SECONDS = 900 + 60 * int(os.environ.get("MOUNTKIT_TEST_EVICTIONS") or 0)
TARGET = "/mnt/run"
#: What each release has: the image of the tests, no GPU, little of a machine that has little.
VALUES: dict[str, Any] = {
    "image": {
        "repository": IMAGE.partition(":")[0],
        "tag": IMAGE.partition(":")[2],
    },
    "fuse": {
        "sidecar": {
            "repository": IMAGE.partition(":")[0],
            "tag": IMAGE.partition(":")[2],
            "commandSeconds": 20,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        }
    },
    "target": TARGET,
    "gpu": {"count": 0},
    "store": {"region": "us-east-1"},
    "credentials": {"existingSecret": SECRET},
    "drain": {"deadlineSeconds": 25, "marginSeconds": 5},
    "cache": {"size": "2Gi"},
    "shm": {"size": "64Mi"},
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the suite to those who name it: it is none of `make test`."""
    here = Path(__file__).parent
    named = [Path(word.partition("::")[0]).resolve() for word in config.args]
    return None if any(path.is_relative_to(here) for path in named) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A training in a pod takes a minute, where the machine is busy some."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(SECONDS), append=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    lacking = missing()
    if lacking:
        pytest.skip(lacking)
    # Short, because the kubelet's sockets lie below it.
    with Cluster(Path(tempfile.mkdtemp(prefix="mk-cluster-"))) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def store(cluster: Cluster) -> Store:
    """versitygw in a pod: both backends upload to it."""
    data = cluster.folder / "store"
    data.mkdir()
    access, secret = f"mountkit{secrets.token_hex(6)}", secrets.token_hex(20)
    metadata = {"name": "store", "namespace": "store", "labels": {"app": "store"}}
    container = {
        "name": "store",
        "image": IMAGE,
        "command": ["versitygw", "--port", f":{PORT}", "posix", "/data"],
        "env": [
            {"name": "ROOT_ACCESS_KEY", "value": access},
            {"name": "ROOT_SECRET_KEY", "value": secret},
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    volume = {"name": "data", "hostPath": {"path": str(data)}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "store"}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"clusterIP": "None", "selector": {"app": "store"}},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "containers": [container],
                "volumes": [volume],
                "terminationGracePeriodSeconds": 1,
            },
        },
    )
    words = ["wait", "--namespace", "store", "--for=condition=Ready", "pod/store"]
    cluster.kubectl(*words, "--timeout=60s", limit=70)
    address = cluster.get("--namespace", "store", "pod", "store")["status"]["podIP"]
    inside = f"http://store.store.svc.cluster.local:{PORT}"
    return Store(data, inside, f"http://{address}:{PORT}", access, secret)


@pytest.fixture(scope="session")
def training() -> Callable[..., list[str]]:
    """The command of a training of so many steps."""

    def command(steps: int, *options: str) -> list[str]:
        script = str(Path(__file__).parent / "scripts" / "train.py")
        return ["python", script, "--output_dir", TARGET, "--steps", str(steps), *options]

    return command


@contextmanager
def releases(cluster: Cluster, store: Store) -> Iterator[Callable[..., Release]]:
    """Make namespaces, each with the store's credentials in it; they are gone at the end."""
    made: list[Release] = []

    def make(**values: Any) -> Release:
        namespace = f"t-{uuid.uuid4().hex[:8]}"
        keys = {name: value for name, value in store.environment().items() if "KEY" in name}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET, "namespace": namespace},
                "stringData": keys,
            },
        )
        watcher = Watcher(cluster, namespace, cluster.folder / namespace)
        common = merged(VALUES, {"store": {"endpointUrl": store.endpoint_url}}, values)
        bucket = store.bucket(namespace)
        made.append(Release(cluster, store, namespace, bucket, watcher, common))
        return made[-1]

    try:
        yield make
    finally:
        for release in made:
            release.watcher.stop()
            # A Job that goes with its namespace leaves pods behind for many minutes.
            words = ["uninstall", RUN, "--namespace", release.namespace, "--ignore-not-found"]
            cluster.helm(*words, check=False)
            words = ["delete", "namespace", release.namespace, "--wait=false"]
            cluster.kubectl(*words, check=False)
            shutil.rmtree(release.bucket.disk, ignore_errors=True)


@pytest.fixture(scope="session")
def fuse_plugin(cluster: Cluster) -> None:
    """The FUSE device plugin, for all tests, of the DaemonSet that the chart brings."""
    values = {
        "source": "s3://bucket/run",
        "command": ["true"],
        "fuse": {"plugin": {"enabled": True, "image": PLUGIN_IMAGE}},
    }
    words = ["template", "fuse", CHART, "--namespace", "kube-system", "--values", "-"]
    words += ["--show-only", "templates/device-plugin.yaml"]
    cluster.kubectl("apply", "-f", "-", given=cluster.helm(*words, given=json.dumps(values)).out)
    path = ["-o", r"jsonpath={.status.allocatable.squat\.ai/fuse}"]
    poll(
        lambda: cluster.kubectl("get", "node", "node1", *path).out not in {"", "0"},
        "offered: /dev/fuse",
        60,
    )


@pytest.fixture
def release(cluster: Cluster, store: Store, fuse_plugin: None) -> Iterator[Release]:
    with releases(cluster, store) as make:
        yield make()


@pytest.fixture(scope="session")
def steps() -> int:
    """How long the training of ``finished`` is, and each that is held against it."""
    return 16


@pytest.fixture(scope="session")
def finished(
    cluster: Cluster,
    store: Store,
    fuse_plugin: None,
    training: Callable[..., list[str]],
    steps: int,
) -> Iterator[Release]:
    """A training that nobody disturbed."""
    with releases(cluster, store) as make:
        release = make()
        release.install(*training(steps))
        assert release.await_end().kind == "Complete", release.story()
        yield release


@pytest.fixture(scope="session")
def undisturbed(finished: Release, steps: int) -> dict[int, float]:
    """The loss of each of its steps."""
    return finished.losses(steps)
