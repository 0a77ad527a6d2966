"""Finds and releases the environment instances that a killed run left open at services."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ajet.environment import protocol
from ajet.environment.client import CannotConnect, EnvironmentClient, UnknownInstance
from ajet.environment.open_instances import FOLDER, OpenInstance
from ajet.environment.protocol import LOOPBACK, ServiceRequest
from ajet.errors import EnvironmentFault

_TIMEOUT_S = 10.0


@dataclass(slots=True, kw_only=True)
class Released:
    """What came of releasing."""

    num_released: int = 0
    num_gone: int = 0
    """Instances whose service does not have them any more, or is not there itself."""
    problems: list[str] = field(default_factory=list)
    """Why instances are still open, one line each."""


def left_open(
    run_folder: Path, problems: list[str] | None = None
) -> Iterator[tuple[Path, list[OpenInstance]]]:
    """For each file of the run, what its process has not released.

    Args:
        run_folder: the run's folder.
        problems: gets one line for each line of a file that cannot be read.
    """
    for path in sorted((run_folder / FOLDER).glob("*.jsonl")):
        found: dict[str, OpenInstance] = {}
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break  # torn by the kill, before the service was asked
            try:
                _apply(json.loads(line), found)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                # A disk that was full for a moment tears a line in the middle of the file.
                if problems is not None:
                    problems.append(
                        f"{path}, line {number} is damaged: an instance that it names stays open "
                        "until its lease at the service ends"
                    )
        yield path, list(found.values())


def _apply(record: dict[str, Any], found: dict[str, OpenInstance]) -> None:
    """Add the instance that was opened, or take away the one that was released."""
    if "open" in record:
        instance = OpenInstance(**record["open"])
        found[instance.instance_id] = instance
    else:
        found.pop(record["released"], None)


def release_left_open(run_folder: Path) -> Released:
    """Release what a run's processes left open. They must have ended."""
    released = Released()
    for path, instances in left_open(run_folder, released.problems):
        problems = [text for one in instances if (text := _release(one, released))]
        released.problems += problems
        if not problems:  # what a damaged line said is lost, so the file is of no more use
            path.unlink()
    return released


def _release(instance: OpenInstance, released: Released) -> str | None:
    """Release one; what is wrong, or None."""
    is_local = urlsplit(instance.url).hostname in LOOPBACK
    if is_local and instance.host != platform.node():
        return f"instance {instance.instance_id}: its service is on {instance.host}"
    request = ServiceRequest(
        env_type=instance.env_type, task_id=instance.task_id, instance_id=instance.instance_id
    )
    with closing(EnvironmentClient(instance.url, timeout_s=_TIMEOUT_S, max_tries=2)) as client:
        try:
            client.call(protocol.RELEASE, request)
        except (CannotConnect, UnknownInstance):
            released.num_gone += 1
        except EnvironmentFault as fault:
            return f"instance {instance.instance_id}: {fault}"
        else:
            released.num_released += 1
    return None
