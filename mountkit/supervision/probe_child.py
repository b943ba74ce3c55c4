"""Ask a mount whenever told to, and free whoever waits for one that hangs if nobody else can.

``prober`` runs the text of this file in a bare Python, a process of its own, so it imports nothing
of mountkit. The supervisor may be a thread of the training, and native code that waits for the
mount while it holds the interpreter's lock keeps that thread from ever running again. Then nobody
is left to end a daemon that hangs but this helper. It judges as ``health`` does, later, and ends
only the very daemon it was started for.

A byte on stdin says that the supervisor takes its turns; a newline asks as well. The answer is a
line with an errno and the seconds it took. Before it ends a daemon it prints ABORTED and since when
there was no answer, by the monotonic clock.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import time

ASK = b"\n"
TURN = b"."
ABORTED = "cut-off"
TICK_SECONDS = 1.0
# Between two ticks: the machine, or this process, was stopped.
FROZEN_SECONDS = 5.0
# Beyond the probe timeout: so much longer the supervisor may take to act itself.
TURN_SECONDS = 5.0
# As in health, which cannot be imported here; a test compares the two.
STOPPED = "TtXZ"
PATIENCE = 5


def hangs(process_state: str, unanswered: float, idle: float, hang: float) -> bool:
    """Whether a daemon that has not answered for longer than the probe timeout hangs."""
    return (
        process_state in STOPPED or min(unanswered, idle) >= hang or unanswered >= PATIENCE * hang
    )


class Clock:
    """For how long who has been silent. Time in which nobody ran counts for nobody."""

    def __init__(self, now: float, probe: float) -> None:
        self._probe = probe
        self._earliest = self._ticked = self._heard = self._active = now
        self._processor = -1

    def heard(self, now: float) -> None:
        """The supervisor took a turn, or could not have taken one."""
        self._heard = now

    def tick(self, now: float) -> None:
        """Now and then, or everything begins anew."""
        if now - self._ticked > FROZEN_SECONDS:
            self._earliest = self._heard = self._active = now
        self._ticked = now

    def unheard(self, now: float) -> float:
        """For how many seconds the supervisor has taken no turn."""
        return now - self._heard

    def unanswered(self, now: float, asked: float | None) -> float:
        """For how many seconds the question asked then has waited; 0.0 for none."""
        return 0.0 if asked is None else now - max(asked, self._earliest)

    def overdue(self, now: float, asked: float | None) -> bool:
        """Whether the mount does not answer, and the supervisor, who had its turn, does nothing."""
        unanswered = self.unanswered(now, asked)
        return unanswered >= self._probe and self.unheard(now) >= self._probe + TURN_SECONDS

    def idle(self, now: float, processor: int) -> float:
        """For how many seconds the daemon has used no processor time, by what it has used now."""
        if processor != self._processor:
            self._processor, self._active = processor, now
        return now - self._active


class Daemon:
    """The one process that may be ended, and the device of its mount."""

    def __init__(self, pid: int, started: int, device: int) -> None:
        self._pid = pid
        self._started = started
        self._device = device

    def look(self) -> tuple[str, int] | None:
        """Its state and its processor time in clock ticks; None if it is gone."""
        fields = process(self._pid)
        if not fields or int(fields[19]) != self._started:
            return None
        return fields[0], int(fields[11]) + int(fields[12])

    def serves(self, target: str) -> bool:
        """Whether what is asked is its mount, and not one that somebody put on top."""
        wanted, found = os.fsencode(target), b""
        with open("/proc/self/mountinfo", "rb") as table:  # noqa: PTH123 - pathlib is half of what this process would load
            for line in table:
                fields = line.split(b" ")
                if unescaped(fields[4]) == wanted:
                    found = fields[2]
        return found.partition(b":")[2] == str(self._device).encode()

    def end(self, since: float) -> None:
        """Cut its connection off, and kill it."""
        try:
            descriptor = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return
        try:
            # The descriptor pins the process, so that a PID re-used in between is not signalled.
            if self.look() is None:
                return
            # Said first: who is freed by it may look at once.
            os.write(1, f"{ABORTED} {since}\n".encode())
            self._abort()
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            # It has just ended by itself.
            return
        finally:
            os.close(descriptor)

    def _abort(self) -> None:
        try:
            with open(f"/sys/fs/fuse/connections/{self._device}/abort", "w") as file:  # noqa: PTH123 - as above
                file.write("1")
        except OSError:
            # Often it is not there; the end of the daemon ends its connection, too.
            return


def process(pid: int) -> list[str]:
    """The fields of proc(5) from the state on; none if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123 - as above
            # The name, in brackets, may itself hold blanks and brackets.
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def unescaped(field: bytes) -> bytes:
    """A path of the mount table as it is; every backslash there begins an octal number."""
    head, *parts = field.split(b"\\")
    return head + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts)


class Asker:
    """Asks in a thread of its own: one that waits in the kernel can do nothing else."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._reader, self._writer = os.pipe()
        #: When the question was asked that is not answered; None if there is none.
        self.asked: float | None = None

    def start(self) -> None:
        """Begin to answer."""
        _thread.start_new_thread(self._run, ())

    def ask(self, word: bytes) -> None:
        """Have it ask; only ASK is answered aloud."""
        os.write(self._writer, word)

    def _run(self) -> None:
        try:
            self._answer()
        finally:
            # Without it a mount would seem to hang. The supervisor sees the end, and starts anew.
            os._exit(1)

    def _answer(self) -> None:
        while True:
            word = os.read(self._reader, 1)
            error, self.asked = 0, time.monotonic()
            began = self.asked
            try:
                # Never answered from the kernel's caches, and no request to the store.
                os.statvfs(self._target)
            except OSError as problem:
                error = problem.errno or 5
            self.asked = None
            if word == ASK:
                try:
                    # Taken here, because the supervisor looks for an answer only now and then.
                    os.write(1, f"{error} {time.monotonic() - began}\n".encode())
                except BrokenPipeError:
                    os._exit(0)


def main() -> None:
    """Answer until the parent has closed stdin, or is gone."""
    target, parent = sys.argv[1], int(sys.argv[2])
    asker = Asker(target)
    asker.start()
    guarded = sys.argv[3:]
    daemon = Daemon(*map(int, guarded[:3])) if guarded else None
    probe, hang = map(float, guarded[3:]) if guarded else (0.0, 0.0)
    clock = Clock(time.monotonic(), probe)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    # A fork of the parent may hold the other end of stdin open; its number is its own.
    while os.getppid() == parent:
        if poll.poll(TICK_SECONDS * 1000):
            words = os.read(0, 4096)
            if not words:
                break
            clock.tick(time.monotonic())
            clock.heard(time.monotonic())
            if ASK in words:
                asker.ask(ASK)
            continue
        now, asked = time.monotonic(), asker.asked
        clock.tick(now)
        if daemon is None:
            continue
        if process(parent)[:1] in (["T"], ["t"]):
            # It waits for nothing, and takes its turn when it goes on.
            clock.heard(now)
        elif asked is None and clock.unheard(now) >= TURN_SECONDS:
            asker.ask(TURN)
        elif clock.overdue(now, asked):
            silence, seen = clock.unanswered(now, asked), daemon.look()
            if seen is None or not hangs(seen[0], silence, clock.idle(now, seen[1]), hang):
                continue
            if daemon.serves(target) and os.getppid() == parent:
                daemon.end(now - silence)
    os._exit(0)


if __name__ == "__main__":
    main()
