"""Mount, have a program run, drain and unmount, as ``mountkit run`` does, time and again.

One request a line on standard input, one answer a line on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

from mountkit import backends
from mountkit.config.environment import command_environment
from mountkit.config.settings import load
from mountkit.errors import MountkitError
from mountkit.lifecycle.session import Session
from mountkit.mounts.inventory import take_inventory
from mountkit.mounts.resolve_spec import resolve_mount_spec
from mountkit.writers import startup_hook

LIMIT_SECONDS = 60.0


def serve(request: dict) -> dict:
    settings = load(backend=request["backend"], endpoint_url=request["endpoint"])
    spec = resolve_mount_spec(request["source"], request["target"], settings, request["options"])
    session = Session.open(spec, settings, look=take_inventory)
    hung = False
    try:
        env = command_environment(settings)
        if "rename" in backends.load(spec.backend).unsupported_operations:
            env = startup_hook.environment(session.mount, env)
        program = subprocess.Popen(request["command"], env=dict(env), stdin=subprocess.PIPE)
        told, until = Path(request["told"]), time.monotonic() + LIMIT_SECONDS
        # With a file left open it ends only after the drain.
        while program.poll() is None and not (request["waits"] and told.exists()):
            if time.monotonic() > until:
                hung = True
                program.kill()
                break
            time.sleep(0.005)
    except BaseException:
        session.close()
        raise
    report = session.finish(ended_well=True)
    program.stdin.close()
    program.wait(LIMIT_SECONDS)
    return {
        "unproven": [[problem.path, problem.reason] for problem in report.unproven],
        "complete": report.complete,
        "hung": hung,
    }


def main() -> None:
    for line in sys.stdin:
        try:
            answer = serve(json.loads(line))
        except MountkitError as error:
            answer = {"error": str(error)}
        except Exception:  # noqa: BLE001 - the test tells of it, and goes on with other sequences
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
