"""The registry of this user's warm engines: one file each, which only the user can read.

A file exists as long as its engine answers. A debug run holds a shared lock on the file while it
uses the engine. An idle engine takes the exclusive lock before it ends, so it never ends under a
run. The file's modification time is when the engine was last used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ajet.config.sections.root import AjetConfig
from ajet.service.probes import start_ticks

WEIGHTS = ("*.safetensors", "*.bin", "*.json")


@dataclass(slots=True, kw_only=True, frozen=True)
class WarmEngine:
    """A process that serves one model."""

    engine: str
    """`rollout.name`."""
    model: str
    """The model's folder, resolved."""
    weights: str
    """`fingerprint` of the folder when the model was loaded."""
    pid: int
    start_ticks: int | None
    url: str
    """Base URL, without `/v1`."""
    api_key: str = field(repr=False)
    started_s: float
    """Unix time at which the engine was ready."""
    idle_s: float
    """The engine ends when it was not used for so many seconds."""
    log: str

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; another process with the same pid does not count."""
        return self.start_ticks is not None and start_ticks(self.pid) == self.start_ticks

    def write(self, path: Path) -> None:
        """Write the file; a reader sees all of it or none."""
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        aside.replace(path)


def state_folder() -> Path:
    """The private folder of the files, below `XDG_STATE_HOME` or `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(home) / "ajet" / "engines"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder


def state_path(ajet: AjetConfig, model: Path) -> Path:
    """The file of the engine that serves this model with this configuration."""
    served: dict[str, Any] = {
        "engine": ajet.rollout.name,
        "model": str(model.resolve()),
        "loaded": ajet.model.model_dump(include={"dtype", "device", "attn_implementation"}),
    }
    if ajet.rollout.name == "vllm":
        served["vllm"] = ajet.rollout.vllm.model_dump(mode="json")
        served["max_model_len"] = ajet.rollout.max_model_len
    digest = hashlib.sha256(json.dumps(served, sort_keys=True).encode()).hexdigest()
    return state_folder() / f"{digest[:16]}.json"


def fingerprint(model: Path) -> str:
    """Hash of a model folder: names, sizes and times of its files of weights and settings."""
    files = sorted(path for pattern in WEIGHTS for path in model.glob(pattern))
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]


def read_state(path: Path) -> WarmEngine | None:
    """The engine of a file. None if it has ended; its file is deleted."""
    try:
        warm = WarmEngine(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    if warm.is_alive:
        return warm
    path.unlink(missing_ok=True)
    return None


def warm_engines() -> list[tuple[Path, WarmEngine]]:
    """All running warm engines, oldest first."""
    found = [(path, read_state(path)) for path in state_folder().glob("*.json")]
    alive = [(path, warm) for path, warm in found if warm is not None]
    return sorted(alive, key=lambda entry: entry[1].started_s)


@contextmanager
def in_use(path: Path) -> Iterator[WarmEngine | None]:
    """The engine of a file, which cannot end for idleness within the block; None if none runs."""
    try:
        file = path.open()
    except FileNotFoundError:
        yield None
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        # The engine may have deleted the file and ended while we waited for the lock.
        has_ended = os.fstat(file.fileno()).st_nlink == 0
        warm = None if has_ended else read_state(path)
        if warm is not None:
            os.utime(path)
        yield warm


def is_idle(path: Path, idle_s: float, now_s: float) -> bool:
    """Whether the engine was unused for `idle_s`. If so, its file is deleted under the lock.

    Raises:
        FileNotFoundError: another process deleted the file.
    """
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.utime(path)
            return False
        if now_s - path.stat().st_mtime < idle_s:
            return False
        path.unlink()
        return True
