"""The first process of a node: it makes the place for Kubernetes, and keeps its programs running.

It has a PID, a network and a mount namespace of its own. With it everything ends that it started,
and what it mounted; the machine's own directories, routes and settings are never touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ADDRESS = "10.77.0.2"
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/24"
SERVICE = "10.96.0.1"
PAUSE_IMAGE = "mountkit.test/pause:1"
#: Where Debian has the plugins of containernetworking-plugins.
NETWORK_PLUGINS = "/usr/lib/cni"
#: Directories of the machine in whose place the node has empty ones, in memory.
OWN = ["/run", "/var/lib", "/var/log"]
#: What the kubelet sets for the whole machine. Here it sets files of its own.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
AGAIN_SECONDS = 0.5
#: Without these the cluster has lost its memory: the node ends, and whoever waits for it is told.
VITAL = {"etcd", "containerd"}


def shell(*words: str) -> None:
    subprocess.run(words, check=True, timeout=30)


def mount_own_directories(top: Path) -> None:
    shell("mount", "--make-rshared", "/")
    for folder in OWN:
        shell("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    # What pods write belongs on the disk. The place of the device plugins is fixed.
    for folder in ("kubelet", "containerd"):
        (top / folder).mkdir()
    Path("/var/lib/kubelet").mkdir()
    shell("mount", "--bind", str(top / "kubelet"), "/var/lib/kubelet")
    settings = top / "kernel"
    for name, value in KERNEL_SETTINGS.items():
        place = Path("/proc/sys") / name
        if place.exists():
            file = settings / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(value)
            shell("mount", "--bind", str(file), str(place))
    for folder in ("/run/lock", "/run/netns", "/run/etcd", "/run/containerd", "/var/log/pods"):
        Path(folder).mkdir(parents=True)
    shell("mount", "--make-rshared", "/")


def make_network() -> None:
    # Everybody who talks with the node is in its network namespace: it needs no other interface.
    shell("ip", "link", "set", "lo", "up")
    shell("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def network_configuration() -> dict[str, object]:
    address_management = {
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": address_management,
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]}


def containerd_configuration(top: Path) -> str:
    return f"""
version = 2
root = "{top}/containerd"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Where CAP_SYS_RESOURCE is missing, no pod could lower the score that it inherits.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{NETWORK_PLUGINS}"
    conf_dir = "{top}/network"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "{top}/container.json"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def container_specification(mounted: list[str]) -> dict[str, object]:
    """What every container starts from: containerd's own, and the Python of the tests."""
    told = subprocess.run(
        ["ctr", "oci", "spec"], check=True, capture_output=True, text=True, timeout=30
    )
    specification: dict[str, object] = json.loads(told.stdout)
    mounts = specification["mounts"]
    assert isinstance(mounts, list)
    for place in mounted:
        options = ["rbind", "ro"]
        mounts.append({"destination": place, "type": "bind", "source": place, "options": options})
    return specification


def kubelet_configuration(top: Path, cgroup: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{top}/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{top}/resolv.conf",
        "volumePluginDir": f"{top}/volume-plugins",
        # The disk and the memory are the machine's, and other people's, too.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "syncFrequency": "10s",
        "serializeImagePulls": False,
    }


def programs(top: Path) -> dict[str, list[str]]:
    """The command line of each."""
    keys = f"{top}/pki"
    return {
        "etcd": [
            "etcd",
            "--data-dir=/run/etcd",
            "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
        ],
        "containerd": ["containerd", f"--config={top}/containerd.toml"],
        "kube-apiserver": [
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            "--secure-port=6443",
            f"--advertise-address={ADDRESS}",
            f"--tls-cert-file={keys}/apiserver.crt",
            f"--tls-private-key-file={keys}/apiserver.key",
            f"--client-ca-file={keys}/ca.crt",
            f"--kubelet-client-certificate={keys}/kubelet-client.crt",
            f"--kubelet-client-key={keys}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={keys}/service-account.key",
            f"--service-account-signing-key-file={keys}/service-account.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICES}",
        ],
        "kube-controller-manager": [
            "kube-controller-manager",
            f"--kubeconfig={keys}/controller-manager.kubeconfig",
            f"--authentication-kubeconfig={keys}/controller-manager.kubeconfig",
            f"--service-account-private-key-file={keys}/service-account.key",
            f"--root-ca-file={keys}/ca.crt",
            "--use-service-account-credentials=true",
            f"--flex-volume-plugin-dir={top}/volume-plugins",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ],
        "kube-scheduler": [
            "kube-scheduler",
            f"--kubeconfig={keys}/scheduler.kubeconfig",
            f"--authentication-kubeconfig={keys}/scheduler.kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        ],
        "kubelet": [
            "kubelet",
            f"--config={top}/kubelet.json",
            f"--kubeconfig={keys}/node.kubeconfig",
            "--hostname-override=node1",
            f"--node-ip={ADDRESS}",
            "--cert-dir=/run/kubelet-certificates",
        ],
        "coredns": ["coredns", f"-conf={top}/Corefile"],
    }


def write_configurations(top: Path, cgroup: str, mounted: list[str]) -> None:
    (top / "network").mkdir()
    (top / "network/10-pods.conflist").write_text(json.dumps(network_configuration()))
    (top / "containerd.toml").write_text(containerd_configuration(top))
    (top / "container.json").write_text(json.dumps(container_specification(mounted)))
    (top / "kubelet.json").write_text(json.dumps(kubelet_configuration(top, cgroup)))
    (top / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    (top / "Corefile").write_text(
        f"""
.:53 {{
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {top}/pki/admin.kubeconfig
    ttl 1
  }}
}}
"""
    )


class Programs:
    """The programs of the node. One that ends is started again: some wait for no API server."""

    def __init__(self, lines: dict[str, list[str]], logs: Path) -> None:
        self._lines = lines
        self._logs = logs
        self._running: dict[int, str] = {}
        for name in lines:
            self._start(name)

    def keep(self) -> None:
        """Reap whatever ends, until one does without which there is no cluster."""
        while True:
            pid, status = os.waitpid(-1, 0)
            name = self._running.pop(pid, "")
            if not name:
                continue
            code = os.waitstatus_to_exitcode(status)
            print(f"{name} ended with {code}", flush=True)
            if name in VITAL:
                sys.exit(f"There is no cluster without {name}: {self._logs / name}.log")
            time.sleep(AGAIN_SECONDS)
            self._start(name)

    def _start(self, name: str) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self._lines[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running[process.pid] = name


def main() -> None:
    top, cgroup = Path(sys.argv[1]), sys.argv[2]
    mount_own_directories(top)
    make_network()
    write_configurations(top, cgroup, sys.argv[3:])
    Programs(programs(top), top / "logs").keep()


if __name__ == "__main__":
    main()
