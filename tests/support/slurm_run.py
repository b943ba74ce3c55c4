"""A run as a job: the file that ``mountkit slurm`` prints, given to a real ``sbatch``."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from support.rig import PACKAGE, SCRIPTS, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from support.rig import Bucket, Rig
    from support.slurm import Slurm

OTHER = "#!/bin/sh\n#SBATCH --partition=high\n#SBATCH --time=1\nsleep 0.5\n"


@dataclass(frozen=True)
class SlurmRun:
    """One test's cluster, bucket and place."""

    rig: Rig
    bucket: Bucket
    slurm: Slurm

    @property
    def source(self) -> str:
        return f"s3://{self.bucket.name}/run"

    @property
    def log(self) -> Path:
        """What the job has said, in all its lives."""
        return self.rig.work / "job.log"

    def environment(self, **changes: str | None) -> dict[str, str]:
        """That of whoever prints the file and submits it."""
        programs = self.rig.work / "bin"
        if not programs.exists():
            programs.mkdir()
            program = programs / "mountkit"
            program.write_text(self.program)
            program.chmod(0o755)
        path = os.pathsep.join([str(programs), self.slurm.environment["PATH"]])
        own = {"PATH": path, "SLURM_CONF": self.slurm.environment["SLURM_CONF"]}
        return self.rig.environment(**{**own, **changes})

    @property
    def program(self) -> str:
        """``mountkit``, as on a machine of its own for each node but the first."""
        return f"""\
#!/bin/sh
PYTHONPATH='{PACKAGE}'
export PYTHONPATH
[ "${{SLURM_NODEID:-0}}" = 0 ] || exec unshare --mount --propagation=private env \\
    MOUNTKIT_STATE_DIR='{self.rig.work}/state-1' MOUNTKIT_CACHE_DIR='{self.rig.work}/cache-1' \\
    '{sys.executable}' -m mountkit "$@"
exec '{sys.executable}' -m mountkit "$@"
"""

    def file(self, command: Iterable[str], *options: str, source: str = "") -> Path:
        """What ``mountkit slurm`` prints."""
        where = [source or self.source, str(self.rig.target), *self.rig.how()]
        # sbatch writes where it is told; the log of all lives is one.
        log = f"output={self.log}"
        words = [*where, "--sbatch", log, *options, "--", *command]
        answer = self.rig.mountkit("slurm", *words, **self.environment())
        assert answer.code == 0, answer
        file = self.rig.work / "job.sbatch"
        file.write_text(answer.out)
        return file

    def submit(
        self, command: Iterable[str], *options: str, source: str = "", **env: str | None
    ) -> str:
        """Print the file, and submit it; the number of the job."""
        file = self.file(command, *options, source=source)
        return self.slurm.submit(file, env=self.environment(**env))

    def preempt(self) -> str:
        """Submit a job that another one has to make room for."""
        file = self.slurm.place / "other.sh"
        file.write_text(OTHER)
        return self.slurm.submit(file, f"--nodes={len(self.slurm.names)}", "--output=/dev/null")

    def told(self) -> str:
        """For a failure: what the job and the daemons have said."""
        said = self.log.read_text(errors="replace") if self.log.exists() else "nothing"
        return f"== the job\n{said}\n{self.slurm.log()}"

    def await_text(self, text: str, times: int = 1, limit: float = 200.0) -> None:
        """Wait until the job has said ``text`` so often."""

        def said() -> bool:
            return self.log.exists() and self.log.read_text(errors="replace").count(text) >= times

        try:
            eventually(said, text, limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def await_word(self, name: str, limit: float = 200.0) -> None:
        """Wait until the script says ``name``."""
        try:
            eventually((self.rig.gates / name).exists, f"said {name}", limit)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def commands(self, script: str) -> list[psutil.Process]:
        """The processes of the job that run a script of the tests, not those that started them."""
        found = []
        for process in self.slurm.processes():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[1:2] == [str(SCRIPTS / script)]:
                    found.append(process)
        return found
