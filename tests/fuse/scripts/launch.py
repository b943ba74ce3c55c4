"""Starts the ranks of one node, as torchrun does: if one of them fails, the others are ended.

``python launch.py NODES NODE EACH PORT COMMAND...``. What torchrun itself needs, torch, takes long
to load; one test has the real one.
"""

import os
import signal
import subprocess
import sys
import time

LIMIT_SECONDS = 30.0


def main() -> None:
    nodes, node, each, port = map(int, sys.argv[1:5])
    ranks = []
    for local in range(each):
        more = {
            "RANK": str(node * each + local),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(nodes * each),
            "LOCAL_WORLD_SIZE": str(each),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        ranks.append(subprocess.Popen(sys.argv[5:], env={**os.environ, **more}))

    def pass_on(number: int, _: object) -> None:
        for rank in ranks:
            rank.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() for rank in ranks):
            break
        time.sleep(0.05)
    failed = next((rank for rank in ranks if rank.poll()), None)
    if failed is None:
        return
    print(f"rank of process {failed.pid} ended with {failed.poll()}", file=sys.stderr)
    pass_on(signal.SIGTERM, None)
    deadline = time.monotonic() + LIMIT_SECONDS
    for rank in ranks:
        try:
            rank.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"rank of process {rank.pid} did not end", file=sys.stderr)
            rank.kill()
            rank.wait()
    sys.exit(1)


if __name__ == "__main__":
    main()
