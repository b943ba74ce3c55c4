"""The certificates of a cluster that lives for minutes, and the kubeconfigs made of them."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

LIFE = dt.timedelta(days=2)
SERVER_NAMES = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
#: Each client of the API server: its name, and the group that gives it its rights.
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "node": ("system:node:node1", "system:nodes"),
    "kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
}


class Authority:
    """A certificate authority, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("mountkit-test-ca", None)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = _builder(self._name, self._name, self._key.public_key())
        self._certificate = builder.add_extension(constraints, critical=True).sign(
            self._key, hashes.SHA256()
        )
        self._write("ca", self._key, self._certificate)

    def sign(
        self, file: str, name: str, group: str | None, addresses: tuple[str, ...] = ()
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(_name(name, group), self._name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if addresses:
            names = [
                *(x509.DNSName(server) for server in SERVER_NAMES),
                *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self._write(file, key, builder.sign(self._key, hashes.SHA256()))

    def service_account_key(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._write("service-account", key)

    def kubeconfig(self, client: str, server: str) -> None:
        """``CLIENT.kubeconfig``: how a client of that name reaches the API server."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": self._data("ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": client,
                    "user": {
                        "client-certificate-data": self._data(f"{client}.crt"),
                        "client-key-data": self._data(f"{client}.key"),
                    },
                }
            ],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": client}}],
            "current-context": "test",
        }
        path = self._folder / f"{client}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(document))

    def _data(self, name: str) -> str:
        return base64.b64encode((self._folder / name).read_bytes()).decode()

    def _write(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        certificate: x509.Certificate | None = None,
    ) -> None:
        (self._folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        if certificate is not None:
            pem = certificate.public_bytes(serialization.Encoding.PEM)
            (self._folder / f"{name}.crt").write_bytes(pem)


def make(folder: Path, node: str, service: str) -> None:
    """All that the programs of a cluster need; ``node`` and ``service`` are the API's addresses."""
    authority = Authority(folder)
    authority.sign("apiserver", "kube-apiserver", None, (node, service, "127.0.0.1"))
    authority.service_account_key()
    for client, (name, group) in CLIENTS.items():
        authority.sign(client, name, group)
        authority.kubeconfig(client, f"https://{node}:6443")


def _name(common: str, organisation: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organisation:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(parts)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A clock that was set back a little is no reason to fail.
        .not_valid_before(now - LIFE)
        .not_valid_after(now + LIFE)
    )
