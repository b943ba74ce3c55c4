"""``/healthz``, ``/readyz`` and ``/metrics`` over HTTP, for whoever runs the job.

The server only looks: at the mount's record and account, and at what the supervisor knows of it. A
request can change nothing, starts no process and asks the mount nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING

from mountkit.config.address import Address
from mountkit.events import EndpointStarted, Event, MountLost, Observer, Problem, Remounted, guarded
from mountkit.formatting import moment
from mountkit.monitoring import metrics
from mountkit.monitoring.http_server import Answer, bind
from mountkit.monitoring.snapshot import look
from mountkit.state.proof_stats import ProofStats
from mountkit.state.record import FAILED, SERVING

if TYPE_CHECKING:
    from mountkit.mounts.mount import Mount
    from mountkit.state.record import MountRecord
    from mountkit.supervision.supervisor import Supervisor

logger = logging.getLogger("mountkit")

LONGEST_REASON = 300
# Of a server that fails, and what it waits before the next one.
SERVE_TRIES = 5
SERVE_PAUSE_SECONDS = 1.0
# How long the end of a run waits for the server to notice.
END_SECONDS = 0.1
OK = Answer(HTTPStatus.OK, "ok\n")


def health(record: MountRecord | None, *, watched: bool) -> Answer:
    """Whether the process is worth keeping: it looks after a mount, or hopes to repair it."""
    if record is None:
        return _no("nothing is mounted any more")
    if record.state == FAILED:
        return _no(f"the mount is given up: {record.reason}")
    if not watched:
        return _no("nobody looks after the mount any more")
    return OK


def readiness(record: MountRecord | None, *, serves: bool) -> Answer:
    """Whether the mount can be used right now."""
    if serves:
        return OK
    if record is None:
        return _no("nothing is mounted")
    if record.state == SERVING:
        return _no("the mount does not answer")
    return _no(f"the mount is {record.state}{f': {record.reason}' if record.reason else ''}")


def _no(reason: str) -> Answer:
    first = reason.partition("\n")[0][:LONGEST_REASON]
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{first}\n")


class Endpoint:
    """What answers for a mount, from before it is made until it is taken away."""

    def __init__(self, address: Address, mount: Mount, observer: Observer) -> None:
        self._mount = mount
        self._tell = guarded(observer)
        self._closing = threading.Event()
        self._remounts: Counter[str] = Counter()
        self._cause = ""
        self._supervisor: Supervisor | None = None
        answers = {
            "/healthz": self._health,
            "/readyz": self._readiness,
            "/metrics": self._metrics,
        }
        self._server = bind(address, answers)
        self.address = Address(address.host, self._server.server_port)
        self._thread = threading.Thread(target=self._serve, name="mountkit-endpoint", daemon=True)

    @classmethod
    def open(cls, address: Address, mount: Mount, observer: Observer) -> Endpoint:
        """Listen and answer from now on.

        Raises ConfigurationError if nobody can listen there.
        """
        endpoint = cls(address, mount, observer)
        endpoint._thread.start()
        try:
            observer(EndpointStarted(endpoint.address.url))
        except BaseException:
            endpoint.close()
            raise
        return endpoint

    def counting(self, observer: Observer) -> Observer:
        """The same observer, while the remounts it hears of are counted."""

        def tell(event: Event) -> None:
            if isinstance(event, MountLost):
                self._cause = event.cause
            elif isinstance(event, Remounted):
                # What it was lost by; a second try may find another cause than the first.
                self._remounts[self._cause or event.cause] += 1
            observer(event)

        return tell

    def watch(self, supervisor: Supervisor) -> None:
        """The mount is made, and this is who looks after it."""
        self._supervisor = supervisor

    def _serve(self) -> None:
        """Answer until the end. That nobody is answered any more is told: nobody would notice."""
        for left in reversed(range(SERVE_TRIES)):
            try:
                self._server.serve_forever(END_SECONDS)
            except Exception as error:
                logger.exception("mountkit: the server at %s failed", self.address.url)
                goes_on = "it goes on" if left else "nobody is answered there any more"
                self._tell(
                    Problem(
                        f"The server at {self.address.url} failed, and {goes_on}; the mount is "
                        f"looked after as before: {type(error).__name__}: {error}. See: mountkit "
                        f"status {self._mount.path}"
                    )
                )
            else:
                return
            if self._closing.wait(SERVE_PAUSE_SECONDS):
                return

    def close(self) -> None:
        """Stop to listen. Answers under way are not waited for."""
        self._closing.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _health(self) -> Answer:
        if self._supervisor is None:
            return OK
        return health(self._mount.record(), watched=not self._supervisor.finished.is_set())

    def _readiness(self) -> Answer:
        if self._supervisor is None:
            return _no("the mount is being made")
        serves = self._supervisor.answered().serving
        return readiness(self._mount.record(), serves=serves)

    def _metrics(self) -> Answer:
        up, seconds = self._answered()
        record = self._mount.record()
        seen = None if record is None else look(self._mount, record)
        proof_stats = seen.proof_stats if seen else ProofStats()
        snapshot = metrics.Snapshot(
            backend=self._mount.spec.backend,
            up=up,
            probe_seconds=seconds,
            remounts=dict(self._remounts),
            verifications={"proven": proof_stats.proofs, "failed": proof_stats.failures},
            last_proven=moment(proof_stats.proven.at) if proof_stats.proven else 0.0,
            unproven_bytes=seen.unproven.size if seen and seen.unproven else None,
            given_up=record is not None and record.state == FAILED,
        )
        return Answer(HTTPStatus.OK, metrics.render(snapshot), metrics.CONTENT_TYPE)

    def _answered(self) -> tuple[bool, float]:
        """Whether the mount serves, and how long its answer took or has not come."""
        if self._supervisor is None:
            return False, 0.0
        last = self._supervisor.answered()
        return last.serving, last.seconds if last.serving else time.monotonic() - last.at
