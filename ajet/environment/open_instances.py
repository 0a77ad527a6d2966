"""Which instances of environment services a process has open, on disk.

A run that is killed cannot release them: `ajet kill RUN` reads the file and does so. There is one
file per process, because the episodes of a run may be spread over several; it is removed when
nothing is open.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "environments"
"""In the run folder."""


@dataclass(slots=True, kw_only=True, frozen=True)
class OpenInstance:
    """What releasing an instance takes."""

    instance_id: str
    url: str
    env_type: str = ""
    task_id: str = ""
    host: str = ""
    """The machine of the run's process."""


class OpenInstances:
    """The file of this process. Any thread.

    Args:
        run_folder: None keeps nothing on disk.
    """

    def __init__(self, run_folder: Path | None) -> None:
        self._path = None
        if run_folder is not None and run_folder.is_dir():  # another node may not have it
            self._path = run_folder / FOLDER / f"{platform.node()}-{os.getpid()}.jsonl"
        self._open: dict[str, OpenInstance] = {}
        self._lock = threading.Lock()

    def add(self, instance: OpenInstance) -> None:
        """Before the service is asked for the instance: its answer may never come."""
        with self._lock:
            self._open[instance.instance_id] = instance
            self._append({"open": asdict(instance)})

    def remove(self, instance_id: str) -> None:
        """The instance was released."""
        with self._lock:
            if self._open.pop(instance_id, None):
                self._append({"released": instance_id})

    def clear_file(self) -> None:
        """Remove the file where nothing is open."""
        with self._lock:
            if self._path is not None and not self._open:
                self._path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._open)

    def _append(self, record: dict[str, object]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:  # one write, so that SIGKILL tears the last line only
            file.write((json.dumps(record) + "\n").encode())
