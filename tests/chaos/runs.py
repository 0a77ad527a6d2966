"""Small runs of each backbone for the campaign: settings, start, processes, end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tests.end_to_end.command import CONF, ROOT, Ended
from tests.end_to_end.run_folders import NAME

MARK = "AJET_CHAOS_RUN"
"""Environment variable that finds all processes of a round."""
STEPS = 3
SMALL = (
    "data.train_batch_size=2",
    "rollout.num_repeat=4",
    "rollout.validation.num_tasks=4",
    "rollout.validation.greedy=false",
    "rollout.max_model_len=512",
    f"trainer_common.total_training_steps={STEPS}",
    "trainer_common.save_freq=1",
    "trainer_common.test_freq=null",
    "rollout.user_workflow=tests/chaos/agents.py->MathAgentOverHttp",
)
"""Three steps of 8 episodes on the demo's model; the agent talks to the gateway over HTTP."""
EPISODES_PER_STEP = 8
READ_S = 5.0
"""How long the rest of the output of a run that has ended may take, if other processes have it."""


@dataclass(slots=True, kw_only=True, frozen=True)
class BackboneSettings:
    """What differs between the backbones."""

    python: Path
    """The interpreter of the environment that has the backbone."""
    args: tuple[str, ...]
    bound_s: float
    """In which a run of this size ends, whatever happens to it, on a busy machine."""
    is_exact: bool
    """True if a resumed run must equal an uninterrupted one bit for bit."""


def settings_of(backbone: str) -> BackboneSettings:
    """The settings of a backbone; `vllm` is the backbone local with vLLM as its engine."""
    vllm = ("rollout.vllm.kv_cache_gb=0.25",)
    with_ray = Path(
        ROOT / (".venv-trinity" if backbone == "trinity" else ".venv-verl"), "bin/python"
    )
    if backbone == "local":
        return BackboneSettings(
            python=Path(sys.executable), args=("--backbone=local",), bound_s=400, is_exact=True
        )
    if backbone == "vllm":
        args = ("--backbone=local", "rollout.name=vllm", *vllm)
        return BackboneSettings(python=with_ray, args=args, bound_s=600, is_exact=False)
    return BackboneSettings(
        python=with_ray, args=(f"--backbone={backbone}", *vllm), bound_s=1200, is_exact=False
    )


@dataclass(slots=True, kw_only=True)
class Running:
    """One process of a run, and what it has written so far."""

    process: subprocess.Popen[bytes]
    folder: Path
    """The run's folder; it may not be there yet."""
    mark: str
    started_s: float
    output: int
    """Our end of the pipe with its standard output and error."""
    text: bytearray = field(default_factory=bytearray)
    reader: threading.Thread | None = None
    """Reads the output until no process has it open."""
    is_read: bool = True
    """False once no process reads the run's output."""

    def record(self) -> dict[str, Any]:
        """Its entry in `run.json`; empty while there is none."""
        with suppress(OSError, ValueError, IndexError):
            processes = json.loads((self.folder / "run.json").read_text())["processes"]
            entry: dict[str, Any] = processes[-1]
            return entry if entry["pid"] == self.process.pid else {}
        return {}

    def children(self, *words: str) -> list[psutil.Process]:
        """Processes below it whose command line has one of these words."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if any(word in " ".join(process.cmdline()) for word in words):
                        found.append(process)
        return found

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, bound_s: float) -> Ended | None:
        """How it ended; None if it did not within the bound."""
        try:
            code = self.process.wait(bound_s)
        except subprocess.TimeoutExpired:
            return None
        if self.reader:
            self.reader.join(READ_S)
        text = self.text.decode(errors="replace")
        return Ended(code=code, stdout=text, stderr=text)


def marked(mark: str) -> list[psutil.Process]:
    """All living processes of a round."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_marked(mark: str) -> None:
    """Kill what is left of a round, so that the next one is not about it."""
    for process in marked(mark):
        with suppress(psutil.Error):
            process.kill()


class Place:
    """The folders of one round. They are on a separate disk if `disk_mb` is given."""

    def __init__(self, backbone: str, disk_mb: int | None = None) -> None:
        self.backbone = backbone
        self.settings = settings_of(backbone)
        # Short, because sockets with long paths cannot be made.
        self.root = Path(tempfile.mkdtemp(prefix="ch"))
        self.temporary = self.root / "t"
        self.temporary.mkdir()
        self.disk = self.root / "d"
        self.disk.mkdir()
        self.disk_mb = disk_mb
        self.mark = uuid4().hex
        if disk_mb:
            mount(self.disk, f"size={disk_mb}M")

    @property
    def folder(self) -> Path:
        return self.disk / NAME

    def start(self, *more: str) -> Running:
        """Start the run, or another process of it."""
        read_end, write_end = os.pipe()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}
        environment |= {MARK: self.mark, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        process = subprocess.Popen(
            # What a shell script starts with `&` ignores Ctrl-C, and its children do so, too.
            ["env", "--default-signal=INT", str(self.settings.python)]
            + ["-m", "ajet", "--conf", str(CONF)]
            + ["--exp-dir", str(self.disk), *self.settings.args, *SMALL, *more],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            start_new_session=True,
        )
        os.close(write_end)
        running = Running(
            process=process,
            folder=self.folder,
            mark=self.mark,
            started_s=time.monotonic(),
            output=read_end,
        )
        running.reader = threading.Thread(target=_read, args=(running,), daemon=True)
        running.reader.start()
        return running

    def remove(self) -> None:
        """End everything of it and delete its folders."""
        end_marked(self.mark)
        if self.disk_mb:
            subprocess.run(["umount", "-l", str(self.disk)], check=True)
        shutil.rmtree(self.root, ignore_errors=True)


def mount(folder: Path, options: str) -> None:
    """Make the folder a disk of its own, in memory."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def can_mount() -> bool:
    """True if this process may mount disks."""
    with tempfile.TemporaryDirectory() as name:
        try:
            mount(Path(name), "size=1M")
        except (OSError, subprocess.CalledProcessError):
            return False
        subprocess.run(["umount", name], check=True)
        return True


def _read(running: Running) -> None:
    while running.is_read:
        try:
            part = os.read(running.output, 65536)
        except OSError:
            return
        if not part:
            break
        running.text += part
    with suppress(OSError):
        os.close(running.output)
