"""Another node of the same run: it mounts without the lease, which the first node has.

``python second_node.py SOURCE TARGET ENDPOINT BACKEND COMMAND...``
"""

from __future__ import annotations

import subprocess
import sys

from mountkit.config.environment import command_environment
from mountkit.config.settings import load
from mountkit.lifecycle import leases
from mountkit.lifecycle.session import Session
from mountkit.mounts.resolve_spec import resolve_mount_spec


def main(source: str, target: str, endpoint: str, backend: str, *command: str) -> None:
    settings = load(backend=backend, endpoint_url=endpoint)
    session = Session.open(
        resolve_mount_spec(source, target, settings), settings, holder=leases.nobody
    )
    try:
        subprocess.run(command, env=command_environment(settings), check=True)
    except BaseException:
        session.close()
        raise
    report = session.finish(ended_well=True)
    for problem in report.unproven:
        print(problem, file=sys.stderr)
    sys.exit(0 if report.complete else 75)


if __name__ == "__main__":
    main(*sys.argv[1:])
