"""A Trainer that saves by one of the ways that ``peers.py`` compares. Run as a script.

Usage: ``peers_training.py WAY OUTPUT_DIR SIZE SAVES REPORT``; SIZE in megabytes a checkpoint.
REPORT gets a JSON list of ``[blocked, there]``: for how many seconds each save kept the training,
and after how many its bytes were uploaded, or proven; null where they go nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from mountkit.timing import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_SECONDS = 600.0
ENDPOINT = os.environ.get("PEERS_ENDPOINT", "")
# s3://BUCKET/PREFIX.
SOURCE = os.environ.get("PEERS_SOURCE", "")
# Weights and Adam's two moments, of four bytes each.
BYTES_A_PARAMETER = 12


def model_of(megabytes: int) -> GPT2LMHeadModel:
    """A GPT-2 whose checkpoint has about so many megabytes."""
    wanted = megabytes * 1e6 / BYTES_A_PARAMETER
    width = 256 if megabytes < 200 else 512 if megabytes < 2000 else 1024
    layers = max(1, round(wanted / (12 * width * width)))
    sizes = {"n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": 16, "vocab_size": 64}
    return GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **sizes))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def place_of(folder: Path) -> tuple[str, str]:
    place = urlsplit(SOURCE)
    return place.netloc, f"{place.path.strip('/')}/{folder.name}"


def by_boto3(folder: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=ENDPOINT)
    bucket, prefix = place_of(folder)
    for path in files_of(folder):
        client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")


def by_crt(folder: Path) -> None:
    """What ``upload_file`` does on machines made for it, where boto3 takes AWS's endpoint alone."""
    from botocore.session import get_session
    from s3transfer import crt

    session = get_session()
    region = os.environ["AWS_REGION"]
    given = {"region_name": region, "endpoint_url": ENDPOINT}
    found = crt.BotocoreCRTCredentialsWrapper(session.get_credentials())
    client = crt.create_s3_crt_client(
        region, found.to_crt_credentials_provider(), use_ssl=ENDPOINT.startswith("https")
    )
    bucket, prefix = place_of(folder)
    serializer = crt.BotocoreCRTRequestSerializer(session, client_kwargs=given)
    with crt.CRTTransferManager(client, serializer) as manager:
        uploads = [
            manager.upload(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")
            for path in files_of(folder)
        ]
        for upload in uploads:
            upload.result()


def by_s3fs(folder: Path) -> None:
    import s3fs

    bucket, prefix = place_of(folder)
    store = s3fs.S3FileSystem(endpoint_url=ENDPOINT)
    store.put(str(folder), f"{bucket}/{prefix}", recursive=True)


def by_rclone_copy(folder: Path) -> None:
    bucket, prefix = place_of(folder)
    remote = f":s3,provider=Other,env_auth,endpoint='{ENDPOINT}':{bucket}/{prefix}"
    subprocess.run(["rclone", "copy", str(folder), remote], check=True, timeout=LIMIT_SECONDS)


def into_mount(folder: Path) -> None:
    """Mountpoint takes no save of Trainer's: it is copied, and closed once it is there."""
    top = Path(os.environ["PEERS_MOUNT"]) / folder.name
    for path in files_of(folder):
        there = top / path.relative_to(folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        # Of the copies of shutil this one alone changes no mode.
        shutil.copyfile(path, there)


def until_queue_is_empty(_: Path) -> None:
    """What is still to be uploaded of an rclone mount, asked ten times a second."""
    command = ["rclone", "rc", "--unix-socket", os.environ["PEERS_SOCKET"], "vfs/stats"]

    def empty() -> bool:
        told = subprocess.run(command, check=True, capture_output=True, timeout=60)
        cache = json.loads(told.stdout)["diskCache"]
        return not cache["uploadsInProgress"] and not cache["uploadsQueued"]

    if not wait_until(empty, LIMIT_SECONDS):
        raise TimeoutError(f"uploads of rclone's still wait after {LIMIT_SECONDS:g} s")


def wait_for(mark: Path) -> None:
    if not wait_until(mark.exists, LIMIT_SECONDS, pause=0.01):
        raise TimeoutError(f"{mark} does not come in {LIMIT_SECONDS:g} s")


QUEUED = "rclone mount, MOUNT_CACHED"
UPLOADS: dict[str, Callable[[Path], None]] = {
    "boto3": by_boto3,
    "boto3, CRT": by_crt,
    "s3fs.put": by_s3fs,
    "rclone copy": by_rclone_copy,
    "Mountpoint, bare": into_mount,
    QUEUED: until_queue_is_empty,
}


class Watch(TrainerCallback):  # type: ignore[misc] # transformers ships no types
    """When each save began, when the training went on, and when its bytes were there."""

    def __init__(self, way: str, marks: Path) -> None:
        self.way = way
        self.marks = marks
        self.first = os.environ.get("RANK", "0") == "0"
        self.began = 0.0
        self.waiting = False
        self.blocked: float | None = None
        self.found: list[tuple[float, float | None]] = []
        self.there = threading.Event()
        self.at = 0.0

    def see(self, event: object) -> None:
        if type(event).__name__ == "CheckpointProven":
            self.at = time.monotonic()
            self.there.set()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = state.global_step < state.max_steps
        self.there.clear()
        self.began = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.waiting = True
        # What is in the cache by now waits for the end of the job, and keeps no training.
        self.blocked = time.monotonic() - self.began if self.way == QUEUED else None
        upload = UPLOADS.get(self.way)
        if upload is not None and state.is_world_process_zero:
            upload(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.waiting:
            self.note()

    def note(self) -> None:
        self.waiting = False
        passed = time.monotonic() - self.began
        blocked = passed if self.blocked is None else self.blocked
        there = passed if self.way in UPLOADS else None
        # A training computes meanwhile, on something else than the processors: all ranks wait.
        if self.way.startswith("mountkit"):
            mark = self.marks.with_name(f"{self.marks.name}.{len(self.found)}")
            if self.first:
                if not self.there.wait(LIMIT_SECONDS):
                    raise TimeoutError(f"nothing is proven after {LIMIT_SECONDS:g} s")
                there = self.at - self.began
                mark.touch()
            wait_for(mark)
        self.found.append((blocked, there))


def main() -> None:
    way, output_dir, size, saves, report = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rows = torch.randint(0, 64, (256, 16))
    watch = Watch(way, Path(report))
    callbacks: list[Any] = [watch]
    if way.startswith("mountkit"):
        import mountkit

        callbacks.append(mountkit.CheckpointCallback(on_event=watch.see))
    Trainer(
        model=model_of(int(size)),
        # The first save warms up; before one more step the last is noted.
        args=TrainingArguments(
            output_dir=output_dir,
            max_steps=int(saves) + 2,
            save_strategy="no",
            per_device_train_batch_size=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            logging_steps=1000,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=callbacks,
    ).train()
    if watch.first:
        Path(report).write_text(json.dumps(watch.found[1 : int(saves) + 1]))


if __name__ == "__main__":
    main()
