"""The chart installed once: what it runs, and what is left of it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.assertions import crc64
from support.chaos import proven_in
from support.cluster.cluster import PACKAGE, poll
from support.rig import Bucket

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

    from support.cluster.cluster import Cluster, Told

CHART = Path(__file__).resolve().parents[3] / "helm" / "mountkit"
SECRET = "store"
RUN = "run1"
LIMIT_SECONDS = 240.0
#: What a namespace has without us.
INBUILT = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


@dataclass
class Store:
    """The store in the cluster; its objects are files on this machine's disk.

    ``endpoint_url`` is how pods reach it, ``outside`` how a command in the cluster's network does.
    """

    data: Path
    endpoint_url: str
    outside: str
    access_key: str
    secret_key: str

    def bucket(self, name: str) -> Bucket:
        (self.data / name).mkdir()
        return Bucket(self, name)  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }


@dataclass
class End:
    """How a Job ended."""

    kind: str
    reason: str
    message: str


@dataclass
class Release:
    """The chart in a namespace of its own, with a bucket of its own."""

    cluster: Cluster
    store: Store
    namespace: str
    bucket: Bucket
    watcher: Watcher
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket.name}/run"

    # What is done

    def install(self, *command: str, **values: Any) -> None:
        """``helm install``; ``values`` come over those that every test has."""
        document = merged(self.values, {"source": self.url, "command": list(command)}, values)
        words = ["install", RUN, CHART, "--namespace", self.namespace, "--values", "-"]
        self.cluster.helm(*words, given=json.dumps(document))

    def make_claim(self, name: str, place: Path) -> None:
        """A volume of this machine's disk, as an administrator makes one by hand.

        Every user may write in it.
        """
        place.mkdir(exist_ok=True)
        place.chmod(0o777)
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
        resources = {"requests": {"storage": "1Gi"}}
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": self.namespace},
                "spec": {
                    **spec,
                    "capacity": {"storage": "1Gi"},
                    "hostPath": {"path": str(place)},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {**spec, "volumeName": self.namespace, "resources": resources},
            },
        )

    def test(self) -> Told:
        """``helm test``."""
        words = ["test", RUN, "--namespace", self.namespace, "--logs", "--timeout", "90s"]
        return self.cluster.helm(*words, limit=100, check=False)

    def uninstall(self) -> None:
        words = ["uninstall", RUN, "--namespace", self.namespace, "--wait", "--timeout", "90s"]
        self.cluster.helm(*words, limit=100)

    def evict(self, pod: str) -> None:
        """By the API that a drain uses, and what makes room for others."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", given=json.dumps(eviction))

    def kubectl(self, *words: str, **more: Any) -> Told:
        return self.cluster.kubectl("--namespace", self.namespace, *words, **more)

    # What there is

    @property
    def job(self) -> dict[str, Any]:
        [found] = self.cluster.get("--namespace", self.namespace, "jobs")["items"]
        return found

    def pods(self) -> list[dict[str, Any]]:
        """The pods of the run, those that ended too."""
        selector = f"job-name={RUN}"
        found = self.cluster.get("--namespace", self.namespace, "pods", "-l", selector)
        return found["items"]

    def pod(self, name: str) -> dict[str, Any]:
        return self.cluster.get("--namespace", self.namespace, "pod", name)

    def running(self, besides: str = "", index: int | None = None) -> str:
        """Wait for a pod that runs, of a node if there are several; its name."""

        def looked() -> str:
            for pod in self.pods():
                name = pod["metadata"]["name"]
                labels = pod["metadata"]["labels"]
                number = labels.get("batch.kubernetes.io/job-completion-index")
                if (
                    name != besides
                    and pod["status"]["phase"] == "Running"
                    and "deletionTimestamp" not in pod["metadata"]
                    and index in {None, number and int(number)}
                ):
                    self.watcher.follow(name)
                    return name
            assert not self.ended(), self.story()
            return ""

        return self._told(looked, "running: a pod")

    def exit_code(self, pod: str) -> int:
        """Wait until the trainer of a pod has ended; its code."""
        self._told(lambda: pod in self.watcher.exit_codes(), f"ended: {pod}")
        return self.watcher.exit_codes()[pod]

    def ended(self) -> End | None:
        for condition in self.job["status"].get("conditions", []):
            if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
                return End(
                    condition["type"], condition.get("reason", ""), condition.get("message", "")
                )
        return None

    def await_end(self, limit: float = LIMIT_SECONDS) -> End:
        return self._told(self.ended, "ended: the job", limit)

    def await_proven(self, step: int) -> None:
        """Wait until a checkpoint of that step or a later one is proven."""

        def looked() -> bool:
            if any(found >= step for found in self.proven()):
                return True
            assert not self.ended(), self.story()
            return False

        self._told(looked, f"proven: step {step}")

    def proven(self) -> list[int]:
        return proven_in(self.bucket)

    def everything(self) -> set[str]:
        """Every object of the namespace, of each kind that there is, but events."""
        kinds = self.cluster.kubectl(
            "api-resources", "--namespaced", "--verbs=list", "-o", "name"
        ).out.split()
        wanted = ",".join(kind for kind in kinds if not kind.startswith("events"))
        found = self.kubectl("get", wanted, "-o", "name", "--ignore-not-found").out.split()
        return {name for name in found if name not in INBUILT}

    def story(self) -> str:
        """All that may tell why something went wrong."""
        told = [self.kubectl("get", "all", "-o", "wide", check=False).out]
        told.append(self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False).out)
        for pod in self.kubectl("get", "pods", "-o", "name", check=False).out.split():
            words = ["logs", pod, "--all-containers", "--prefix", "--tail=60"]
            told.append(self.kubectl(*words, check=False).out)
        told.extend(self.watcher.logs())
        told.append(f"exit codes: {self.watcher.exit_codes()}")
        told.append(f"bucket: {sorted(self.bucket.everything())}")
        return "\n".join(told)

    # What has to hold

    def mountkit(self, *words: str) -> Told:
        """A command of mountkit beside the cluster, with the store's credentials."""
        line = [sys.executable, "-m", "mountkit", *words, "--endpoint-url", self.store.outside]
        env = {**self.store.environment(), "PYTHONPATH": str(PACKAGE)}
        return self.cluster.run(*line, env=env, check=False)

    def assert_whole(self, steps: int) -> None:
        """The run went to its end, and each proven checkpoint is in the bucket to the byte."""
        assert self.proven()[-1:] == [steps], self.story()
        for step in self.proven():
            self.assert_to_the_byte(step)
        latest = self.mountkit("latest", self.url)
        assert latest.out.strip().endswith(f"checkpoint-{steps}"), latest

    def assert_to_the_byte(self, step: int) -> None:
        """What the manifest says is what the store's disk has, and it names every file there."""
        name = f"run/checkpoint-{step}"
        manifest = self.bucket.manifest(name)
        assert manifest is not None
        files = self.bucket.files(name)
        listed = {file["path"]: (file["size"], file["crc64nvme"]) for file in manifest["files"]}
        assert listed == {path: (len(data), crc64(data)) for path, data in files.items()}
        assert json.loads(files["trainer_state.json"])["global_step"] == step

    def losses(self, step: int) -> dict[int, float]:
        """The loss of each step, as the checkpoint of that step remembers it."""
        state = json.loads(self.bucket.files(f"run/checkpoint-{step}")["trainer_state.json"])
        return {line["step"]: line["loss"] for line in state["log_history"] if "loss" in line}

    def _told(self, condition: Callable[[], Any], what: str, limit: float = LIMIT_SECONDS) -> Any:
        try:
            return poll(condition, what, limit)
        except AssertionError as error:
            if "exit codes:" in str(error):
                raise
            raise AssertionError(f"{error}\n{self.story()}") from None


class Watcher:
    """Notes how containers ended, and what they said: a pod that was evicted is gone soon."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        folder.mkdir()
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._begin("pods", "get", "pods", "--watch", "-o", "json")

    def follow(self, pod: str) -> None:
        """Note what a pod says, from now on and before."""
        if pod not in self._processes:
            self._begin(pod, "logs", "--follow", "--all-containers", pod)

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def said(self, pod: str) -> str:
        """All that a pod has said that is followed."""
        return (self._folder / pod).read_text(errors="replace")

    def logs(self) -> list[str]:
        """The end of what each pod said that is followed."""
        pods = [name for name in self._processes if name != "pods"]
        return [f"{pod}:\n{self.said(pod)[-4000:]}" for pod in pods]

    def _begin(self, name: str, *words: str) -> None:
        line = ["kubectl", "--namespace", self._namespace, *words]
        with (self._folder / name).open("wb") as out:
            self._processes[name] = self._cluster.start(*line, out=out)

    def seen(self) -> list[dict[str, Any]]:
        """Each state of each pod, in order."""
        text, place, found = (self._folder / "pods").read_text(), 0, []
        decoder = json.JSONDecoder()
        while (place := text.find("{", place)) >= 0:
            try:
                pod, place = decoder.raw_decode(text, place)
            except ValueError:
                # The last one is still being written.
                break
            found.append(pod)
        return found

    def exit_codes(self, container: str = "") -> dict[str, int]:
        """The exit code of a container by its pod: the trainer's, if none is named."""
        found: dict[str, int] = {}
        for pod in self.seen():
            name = container or pod["spec"]["containers"][0]["name"]
            statuses = pod["status"].get("containerStatuses", [])
            statuses += pod["status"].get("initContainerStatuses", [])
            for status in statuses:
                ended = status["state"].get("terminated")
                if ended and status["name"] == name:
                    found[pod["metadata"]["name"]] = ended["exitCode"]
        return found


def merged(*documents: Mapping[str, Any]) -> dict[str, Any]:
    """Values over values, as helm lays them over each other."""
    found: dict[str, Any] = {}
    for document in documents:
        for name, value in document.items():
            known = found.get(name)
            both = isinstance(known, dict) and isinstance(value, dict)
            found[name] = merged(known, value) if both else value
    return found
