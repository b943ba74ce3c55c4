"""What the demo tells on stderr: a line an event while it runs, a table of claims at the end."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mountkit.formatting import megabytes

STYLES = {
    "proven": "green",
    "resume": "green",
    "done": "bold green",
    "kill": "bold red",
    "trouble": "red",
    "wait": "yellow",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """Something the demo says about mountkit, whether it held, and what shows it."""

    text: str
    held: bool
    evidence: str


class Account:
    """Rich on a terminal, plain lines anywhere else."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._start = time.monotonic()
        self._waiting = ""

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._start

    def tell(self, kind: str, text: str) -> None:
        """Print one line: when, what kind of thing, and what."""
        line = f"{self.seconds:6.1f} s  {kind:<8} {text}"
        if self._console.is_terminal:
            self._console.print(Text(line, style=STYLES.get(kind, "")))
        else:
            self._plain(line)

    def event(self, event: dict[str, Any]) -> None:
        """Print what the training script reported, if it is worth a line."""
        told = describe(event)
        if event["event"] in {"UploadProgress", "SaveBlocked"}:
            # A wait is reported again and again while it lasts; people want to hear of it once.
            if event["reason"] == self._waiting:
                return
            self._waiting = event["reason"]
        elif event["event"] == "CheckpointProven":
            self._waiting = ""
        if told is not None:
            self.tell(*told)

    def quote(self, title: str, text: str) -> None:
        """Print the end of a log."""
        self._plain(f"--- {title}\n{text}\n---")

    def table(self, claims: list[Claim]) -> None:
        """Print the claims, each with what shows it."""
        if not self._console.is_terminal:
            for claim in claims:
                self._plain(f"  {'✓' if claim.held else '✗'} {claim.text}: {claim.evidence}")
            return
        table = Table("", "claim", "evidence", title="What was claimed, and what was found")
        for claim in claims:
            mark = Text("✓", "green") if claim.held else Text("✗", "bold red")
            table.add_row(mark, Text(claim.text), Text(claim.evidence))
        self._console.print(table)

    def _plain(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def describe(event: dict[str, Any]) -> tuple[str, str] | None:
    """Put an event of the training script into a kind and a sentence; None if it needs none."""
    match event:
        case {"event": "model", "parameters": parameters, "checkpoint": None}:
            return "train", f"a GPT-2 of {parameters / 1e6:.1f} million parameters, from scratch"
        case {"event": "model", "checkpoint": checkpoint}:
            return "resume", f"from the newest proven checkpoint, {checkpoint.rpartition('/')[2]}"
        case {"event": "loss", "step": step, "loss": loss} if step % 5 == 0:
            return "step", f"{step:>3}   loss {loss:.3f}"
        case {"event": "ProofStarted", "step": step}:
            return "save", f"checkpoint-{step} is written; its proof runs beside training"
        case {"event": "FileProven", "path": path, "attested_by": how}:
            size = f"{megabytes(event['size']):>8}"
            return "", f"  {path:<24} {size}  by {how}, {event['seconds']:.1f} s"
        case {"event": "CheckpointProven", "step": step, "seconds": seconds}:
            what = f"{event['files']} files, {megabytes(event['size'])}"
            return "proven", f"checkpoint-{step}: {what}, {seconds:.1f} s after the save began"
        case {"event": "SaveBlocked", "reason": reason}:
            return "wait", str(reason)
        case {"event": "UploadProgress", "reason": reason, "files": files, "size": size}:
            return "wait", f"{reason}: {files} files, {megabytes(size)} to go"
        case {"event": "Problem" | "MountLost" | "MountFailed", "reason": reason}:
            return "trouble", str(reason)
        case {"event": "end", "step": step}:
            return "train", f"ended at step {step}"
    return None
