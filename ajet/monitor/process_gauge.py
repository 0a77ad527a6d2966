"""What the run's process holds, as metrics: something that only grows from step to step leaks."""

from __future__ import annotations

import os
import resource
import sys
import threading

from ajet.background_loop import num_tasks


def process_gauge() -> dict[str, float]:
    """Memory, open files, connections, threads and asyncio tasks of this process.

    Files and connections are counted where the system lists them, which is on Linux and macOS.
    """
    gauge: dict[str, float] = {
        "process/memory_mb": _memory_bytes() / 2**20,
        "process/threads": threading.active_count(),
        "process/tasks": num_tasks(),
    }
    folder = next((path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path)), None)
    if folder is not None:
        targets = [_target(f"{folder}/{name}") for name in os.listdir(folder)]
        gauge["process/open_files"] = len(targets)
        if folder.startswith("/proc"):
            gauge["process/connections"] = sum(name.startswith("socket:") for name in targets)
    return gauge


def _memory_bytes() -> float:
    """Memory in use now; where the system does not say it, the largest ever in use."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:  # it was closed meanwhile: the listing itself, for example
        return ""
