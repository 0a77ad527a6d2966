"""What the tasks of a page's episodes ask, from `calls/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ajet.monitor.call_store import call_path
from ajet.viewer.step_tables import UnreadableError, column_of

MAX_STEPS = 4
"""A page over more steps than these shows no queries: each step is a file to read."""
MAX_CHARACTERS = 160


def queries_of(run_dir: Path, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], str]:
    """(step, episode id) -> the beginning of what the task asks."""
    wanted: dict[int, list[str]] = {}
    for row in rows:
        wanted.setdefault(row["step"], []).append(row["episode_id"])
    if len(wanted) > MAX_STEPS:
        return {}
    found: dict[tuple[int, str], str] = {}
    for step, ids in wanted.items():
        try:
            table = column_of(call_path(run_dir, step), ("episode_id", "task"))
            if table is None:
                continue
            table = table.filter(pc.is_in(table.column("episode_id"), value_set=pa.array(ids)))
        except (UnreadableError, pa.ArrowException):  # the latter: the column holds no texts
            continue
        for each in table.to_pylist():
            found[step, each["episode_id"]] = _query(each["task"])
    return found


def _query(task: Any) -> str:
    try:
        fields = json.loads(task)
    except (ValueError, TypeError, RecursionError):
        return ""
    query = fields.get("main_query") if isinstance(fields, dict) else None
    if not query and isinstance(fields, dict):
        messages = fields.get("init_messages")
        last = messages[-1] if isinstance(messages, list) and messages else {}
        query = last.get("content") if isinstance(last, dict) else None
    return query[:MAX_CHARACTERS] if isinstance(query, str) else ""
