"""Containers of the tests: started with what a run needs, asked, and removed whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.gate import Gate
from support.rig import SCRIPTS, Answer, Bucket

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Mapping

    from support.rig import Server

LABEL = "mountkit-test"
CALL_SECONDS = 60.0
END_SECONDS = 120.0
# What a run needs of the engine, and not more.
FUSE = ("--device", "/dev/fuse", "--cap-add", "SYS_ADMIN")
# Each question is a process of its own.
POLL_SECONDS = 0.5
GATES = "/gates"
PROGRAMS = "/scripts"


def eventually(condition: Callable[[], Any], what: str, limit: float = END_SECONDS) -> None:
    """Wait until ``condition`` holds; fail after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"After {limit:.0f} s: not {what}."
        time.sleep(POLL_SECONDS)


class Engine:
    """The Docker engine, by its command line: a program, and what each call of it begins with."""

    def __init__(self, *program: str) -> None:
        self._program = program

    def ask(self, *words: str, limit: float = CALL_SECONDS, **env: str) -> Answer:
        """A command, however it ends."""
        began = time.monotonic()
        try:
            done = subprocess.run(
                [*self._program, *words],
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=limit,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{' '.join((*self._program, *words))}\ndid not end within {limit:.0f} s"
            ) from None
        seconds = time.monotonic() - began
        return Answer((*self._program, *words), done.returncode, done.stdout, done.stderr, seconds)

    def __call__(self, *words: str, limit: float = CALL_SECONDS, **env: str) -> str:
        """What a command that ends well prints."""
        answer = self.ask(*words, limit=limit, **env)
        assert answer.code == 0, answer
        return answer.out.strip()

    def image(self, name: str) -> dict[str, Any]:
        """All that the engine knows of an image."""
        [found] = json.loads(self("image", "inspect", name))
        return found

    def left(self, label: str) -> list[str]:
        """The containers and volumes with that label, as ``docker`` commands that remove them."""
        chosen = ("--filter", f"label={label}")
        names = self("ps", "--all", "--quiet", *chosen).split()
        volumes = self("volume", "ls", "--quiet", *chosen).split()
        return [f"rm --force --volumes {name}" for name in names] + [
            f"volume rm --force {name}" for name in volumes
        ]

    def sweep(self, label: str) -> list[str]:
        """Remove everything with that label; what it was."""
        found = self.left(label)
        for words in found:
            self.ask(*words.split())
        return found


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    name: str

    @property
    def state(self) -> dict[str, Any]:
        [found] = json.loads(self.engine("inspect", self.name))
        return found["State"]

    @property
    def health(self) -> str:
        return self.state["Health"]["Status"]

    def ended(self) -> bool:
        return self.state["Status"] in {"exited", "dead"}

    @property
    def err(self) -> str:
        """What it has said to people."""
        return self.engine.ask("logs", self.name).err

    def wait(self, limit: float = END_SECONDS) -> Answer:
        """Wait for its end; one that takes too long is a failure, with what it said."""
        began = time.monotonic()
        try:
            code = self.engine("wait", self.name, limit=limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.err}") from None
        said = self.engine.ask("logs", self.name)
        seconds = time.monotonic() - began
        return Answer(("container", self.name), int(code), said.out, said.err, seconds)

    def exec(self, *words: str, user: str = "", limit: float = CALL_SECONDS) -> Answer:
        """A command in it, as its own user if none is given."""
        who = ("--user", user) if user else ()
        return self.engine.ask("exec", *who, self.name, *words, limit=limit)

    def kill(self, number: signal.Signals) -> None:
        self.engine("kill", "--signal", number.name, self.name)

    def stop(self, seconds: int) -> None:
        """``docker stop``: SIGTERM, and SIGKILL after so many seconds."""
        self.engine("stop", "--time", str(seconds), self.name, limit=seconds + CALL_SECONDS)

    def pid_of(self, program: str) -> int:
        """The process of that name in it, by its number there; 0 if there is none."""
        listed = self.exec("sh", "-c", LIST, user="0")
        assert listed.code == 0, listed
        found = [pid for pid, name, state in _rows(listed.out) if name == program and state != "Z"]
        return found[0] if found else 0

    def zombies(self) -> list[str]:
        """The processes in it that ended and that nobody has waited for."""
        listed = self.exec("sh", "-c", LIST, user="0")
        assert listed.code == 0, listed
        return [name for _, name, state in _rows(listed.out) if state == "Z"]


# No ps in a slim image.
LIST = 'for each in /proc/[0-9]*; do cat "$each/stat" 2>/dev/null || :; done'


def _rows(text: str) -> Iterator[tuple[int, str, str]]:
    for line in text.splitlines():
        pid, _, rest = line.partition(" (")
        name, _, fields = rest.rpartition(") ")
        yield int(pid), name, fields.split()[0]


@dataclass
class ContainerRig:
    """One test's containers, and the store that they save to. They use the host's network."""

    engine: Engine
    image: str
    backend: str
    server: Server
    work: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="c")))
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    target: str = "/mnt/output"
    _count: int = 0
    _gates: list[Gate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gates.mkdir()
        # The container's user is another one.
        self.gates.chmod(0o777)

    @property
    def gates(self) -> Path:
        return self.work / "gates"

    @property
    def label(self) -> str:
        return f"{LABEL}={self.name}"

    def bucket(self) -> Bucket:
        """A bucket of this test's own."""
        bucket = Bucket(self.server, f"b-{self.name}")
        if not bucket.disk.exists():
            bucket.client().create_bucket(Bucket=bucket.name)
        return bucket

    @property
    def source(self) -> str:
        return f"s3://{self.bucket().name}/run"

    def gate(self) -> Gate:
        """A way to the server that this test can shut."""
        gate = Gate(self.server.endpoint_url)
        self._gates.append(gate)
        return gate

    def volume(self) -> str:
        self._count += 1
        return self.engine("volume", "create", "--label", self.label, f"{self.name}-{self._count}")

    def light(self, *actions: str) -> list[str]:
        """The command line of the light training script."""
        return ["python3", f"{PROGRAMS}/light.py", self.target, GATES, *actions]

    def late(self, *actions: str) -> list[str]:
        """The same, where nothing is uploaded before the drain if it can wait."""
        option = ("--option", "vfs-write-back=10m") if self.backend == "rclone" else ()
        return ["mountkit", "run", *option, "--", *self.light(*actions)]

    def environment(self, **changes: str | None) -> dict[str, str]:
        """A run's settings; a change to None takes one away."""
        values: dict[str, str | None] = {
            "MOUNTKIT_SOURCE": self.source,
            "MOUNTKIT_TARGET": self.target,
            "MOUNTKIT_BACKEND": self.backend,
            "MOUNTKIT_ENDPOINT_URL": self.server.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.server.access_key,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **changes,
        }
        return {name: value for name, value in values.items() if value is not None}

    def begin(
        self,
        *command: str,
        options: tuple[str, ...] = (),
        fuse: tuple[str, ...] = FUSE,
        image: str = "",
        **changes: str | None,
    ) -> Container:
        """``docker run``, left running."""
        self._count += 1
        name = f"mountkit-{self.name}-{self._count}"
        env = self.environment(**changes)
        # By name only: a value would be on the command line, where everybody can read it.
        passed = [word for name in env for word in ("--env", name)]
        mounts = [f"{self.gates}:{GATES}", f"{SCRIPTS}:{PROGRAMS}:ro"]
        bound = [word for mount in mounts for word in ("--volume", mount)]
        words = ["run", "--detach", "--name", name, "--label", self.label, "--network", "host"]
        words += [*fuse, *self.security(), *passed, *bound, *options, image or self.image, *command]
        self.engine(*words, **env)
        return Container(self.engine, name)

    def run(self, *command: str, **how: Any) -> Answer:
        """``docker run``, to its end."""
        return self.begin(*command, **how).wait()

    def security(self) -> tuple[str, ...]:
        """AppArmor's profile for containers forbids every mount."""
        found = self.engine("info", "--format", "{{json .SecurityOptions}}")
        return ("--security-opt", "apparmor=unconfined") if "apparmor" in found else ()

    def await_word(self, word: str, container: Container) -> None:
        """Wait until the script says ``word``; a container that ends before that is a failure."""

        def said() -> bool:
            if (self.gates / word).exists():
                return True
            assert not container.ended(), container.wait()
            return False

        eventually(said, f"said {word}")

    def await_text(self, text: str, container: Container) -> None:
        """Wait until the container has said ``text``; one that ends before is a failure."""

        def said() -> bool:
            if text in container.err:
                return True
            assert not container.ended(), container.wait()
            return False

        eventually(said, f"told {text!r}")

    def status(self, container: Container) -> list[dict[str, Any]]:
        """The mounts in a container, as ``mountkit status`` tells of them."""
        told = container.exec("mountkit", "status", "--format", "json")
        assert told.code in {0, 69}, told
        return json.loads(told.out)["mounts"]

    def daemon_of(self, container: Container) -> int:
        """The PID of the mount's daemon, by its number in the container."""
        return container.pid_of({"rclone": "rclone", "mountpoint": "mount-s3"}[self.backend])

    def say(self, word: str) -> None:
        (self.gates / word).touch()

    def sweep(self) -> None:
        """Remove the containers, the volumes and the directories."""
        for gate in self._gates:
            gate.close()
        self.engine.sweep(self.label)
        shutil.rmtree(self.work, ignore_errors=True)


def environment_of(image: dict[str, Any]) -> Mapping[str, str]:
    """The variables that an image sets."""
    pairs = (line.partition("=") for line in image["Config"]["Env"] or ())
    return {name: value for name, _, value in pairs}
