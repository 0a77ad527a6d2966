"""Measures what this machine gives to a process: cores, memory, disk, open files, ports."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(slots=True, kw_only=True, frozen=True)
class Machine:
    """Resources of this machine; all sizes are in bytes."""

    cores: int
    """Cores of the machine."""
    usable_cores: float
    """Cores that this process may use, after CPU affinity and cgroup quota."""
    memory: int
    """Memory that this process may use: the machine's, or the limit of its cgroup."""
    free_memory: int
    """Memory that is free or can be freed, within that limit."""
    is_memory_limited: bool
    """Whether a cgroup limits the memory, as in a container."""
    run_folder: Path
    """The folder in which run folders are made, or its nearest parent that exists."""
    free_disk: int
    """Free disk space in `run_folder`."""
    is_writable: bool
    """Whether this process may write to `run_folder`."""
    shared_memory: int | None
    """Size of /dev/shm; None: the system has none."""
    max_files: int
    """Soft limit of open file descriptors."""
    loopback_error: str | None
    """Why no port of 127.0.0.1 can be bound; None: one can."""


def this_machine(run_folder: Path) -> Machine:
    """Measure the resources now.

    Args:
        run_folder: folder in which run folders are made; it need not exist.
    """
    path = run_folder.absolute()
    folder = next(parent for parent in (path, *path.parents) if parent.exists())
    total, free = _memory()
    limit, used = cgroup_memory()
    if limit is None or limit >= total:
        limit, used = total, total - free
    shm = Path("/dev/shm")
    return Machine(
        cores=os.cpu_count() or 1,
        usable_cores=min([_cores_of_process(), *_cgroup_cores()]),
        memory=limit,
        free_memory=min(free, limit - used),
        is_memory_limited=limit < total,
        run_folder=folder,
        free_disk=shutil.disk_usage(folder).free,
        is_writable=os.access(folder, os.W_OK),
        shared_memory=shutil.disk_usage(shm).total if shm.is_dir() else None,
        max_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        loopback_error=_loopback_error(),
    )


def _memory() -> tuple[int, int]:
    """The machine's memory, and how much of it is free or can be freed."""
    path = Path("/proc/meminfo")
    if not path.is_file():  # not Linux: nothing is known about free memory
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return total, total
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
    total, available = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return total * 1024, available * 1024


def _cores_of_process() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # only Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cgroup_memory(membership: str | None = None, root: Path = CGROUPS) -> tuple[int | None, int]:
    """The lowest memory limit of the cgroups of this process, and how much that group uses.

    Args:
        membership: the text of `/proc/self/cgroup`; None: the file is read.
        root: where cgroups of version 1 or 2 are mounted.

    Returns:
        The limit, or None if there is none; and the memory in use, without droppable file caches.
    """
    tightest: tuple[int | None, int] = (None, 0)
    for folder in _cgroup_folders("memory", membership, root):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and (tightest[0] is None or limit < tightest[0]):
            tightest = (limit, max(0, (used or 0) - _cached(folder / "memory.stat")))
    return tightest


def _cached(path: Path) -> int:
    """Bytes of cached files, which the system drops when a process needs memory."""
    if not path.is_file():
        return 0
    counts = dict(line.split() for line in path.read_text().splitlines())
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def _cgroup_cores() -> Iterator[float]:
    """The cores that each cgroup of this process allows: its quota divided by its period."""
    for folder in _cgroup_folders("cpu", None, CGROUPS):
        both = folder / "cpu.max"
        if both.is_file():
            quota, period = both.read_text().split()
            if quota != "max":
                yield int(quota) / int(period)
        quota_us = _number(folder / "cpu.cfs_quota_us")
        period_us = _number(folder / "cpu.cfs_period_us")
        if quota_us and period_us and quota_us > 0:
            yield quota_us / period_us


def _cgroup_folders(controller: str, membership: str | None, root: Path) -> Iterator[Path]:
    """The cgroup of this process and all groups above it that are visible from here."""
    own = Path("/proc/self/cgroup")
    if membership is None:
        membership = own.read_text() if own.is_file() else ""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / controllers if (root / controllers).is_dir() else root / controller
        top = mount if controllers else root
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            if folder.is_dir():
                yield folder
            if folder == top:
                break


def _number(*paths: Path) -> int | None:
    """The number in the first of these files that exists; None: no file exists, or it has `max`."""
    for path in paths:
        if path.is_file():
            text = path.read_text().strip()
            return None if text == "max" else int(text)
    return None


def _loopback_error() -> str | None:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return None
    except OSError as error:
        return str(error)
