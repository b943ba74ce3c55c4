"""The README's pictures: what a real demo, and a real ``mountkit status`` during it, show.

python tests/pictures.py   run the demo on a terminal of its own, and draw both into tests/docs
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from mountkit.timing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIRECTORY = Path(__file__).resolve().parent / "docs"
DEMO, STATUS = DIRECTORY / "demo.svg", DIRECTORY / "status.svg"
COLUMNS, ROWS = 100, 200
DEMO_SECONDS = 900.0
STATUS_SECONDS = 60.0

#: The demo tells of each step and each file, too; those lines would double the picture.
LEFT_OUT = ("server", "mount", "step", "wait", "")
LINE = re.compile(r"^ *[\d.]+ s  (.{8}) ")
COLOURS = re.compile(r"\x1b\[[\d;]*m")
UPLOADING = re.compile(r"to upload +\d")
WORK = re.compile(r"/tmp/mk-demo-\w+")

#: Rich's own template names a font on another host; this one takes what the reader's machine has.
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace;
    font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Terminal:
    """A command on a terminal of its own, and what it has shown there so far."""

    def __init__(self, words: Sequence[str], env: dict[str, str]) -> None:
        self._reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        try:
            self.process = subprocess.Popen(
                words, env=env, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer
            )
        finally:
            os.close(writer)
        self._shown = bytearray()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def text(self) -> str:
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, condition: Callable[[str], bool], seconds: float) -> None:
        """Wait until what is shown meets the condition, or the command has ended."""

        def over() -> bool:
            return condition(self.text) or self.process.poll() is not None

        if not wait_until(over, seconds):
            raise TimeoutError(f"After {seconds:.0f} s the terminal shows:\n{self.text}")

    def end(self, seconds: float) -> int:
        """Wait for the command's end, and give its exit code."""
        code = self.process.wait(seconds)
        self._thread.join(seconds)
        return code

    def stop(self) -> None:
        """End the command, which clears up after itself."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STATUS_SECONDS)
        self._thread.join(STATUS_SECONDS)
        os.close(self._reader)

    def _read(self) -> None:
        # A terminal that nobody writes to any more gives an error, not an end of file.
        with contextlib.suppress(OSError):
            while part := os.read(self._reader, 65536):
                self._shown += part


def shortened(shown: str) -> str:
    """What the demo has shown without the lines of single steps and files."""
    kept = []
    for line in shown.splitlines():
        found = LINE.match(COLOURS.sub("", line))
        if found is None or found[1].strip() not in LEFT_OUT:
            kept.append(line)
    return "\n".join(kept)


def drawing(title: str, shown: str) -> str:
    """The text, with its colours, as SVG; the demo's directory loses its random end."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(WORK.sub("/tmp/mk-demo", shown).strip("\n")))
    svg = console.export_svg(title=title, code_format=TEMPLATE)
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def environment() -> dict[str, str]:
    """A terminal with colours, and nothing of the user's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MOUNTKIT_", "RCLONE_")) and name != "NO_COLOR"
    }
    return {**kept, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "TMPDIR": "/tmp"}


def status(env: dict[str, str]) -> str:
    """What ``mountkit status`` shows now."""
    terminal = Terminal([sys.executable, "-m", "mountkit", "status"], env)
    try:
        terminal.end(STATUS_SECONDS)
        return terminal.text
    finally:
        terminal.stop()


def play() -> tuple[str, str]:
    """Run the demo to its end. Gives what it showed, and ``status`` in the middle of it."""
    env = environment()
    demo = Terminal([sys.executable, "-m", "mountkit", "demo"], env)
    try:
        demo.wait_for(lambda shown: " remount " in shown, DEMO_SECONDS)
        work = WORK.search(demo.text)
        if work is None:
            raise SystemExit(f"The demo does not say where it works:\n{demo.text}")
        own = {"MOUNTKIT_STATE_DIR": f"{work[0]}/state", "MOUNTKIT_CACHE_DIR": f"{work[0]}/cache"}
        seen = status(env | own)
        # The picture shows most while the checkpoint after the kill is uploaded.
        while " proven " not in demo.text.partition(" remount ")[2]:
            seen = status(env | own)
            if UPLOADING.search(COLOURS.sub("", seen)) or demo.process.poll() is not None:
                break
        code = demo.end(DEMO_SECONDS)
        if code != 0:
            raise SystemExit(f"The demo exits {code}:\n{demo.text}")
        return demo.text, seen
    finally:
        demo.stop()


if __name__ == "__main__":
    told, seen = play()
    DIRECTORY.mkdir(exist_ok=True)
    DEMO.write_text(drawing("make demo", shortened(told)))
    STATUS.write_text(drawing("mountkit status", seen))
    sys.stdout.write(f"{DEMO}\n{STATUS}\n")
