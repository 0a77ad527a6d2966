"""Finds a text in the conversations of a run's training episodes."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ajet.monitor.call_store import call_path
from ajet.viewer.step_tables import UnreadableError, column_of

TIME_S = 2.0
"""After so long a search ends, and says how far it came."""
_COLUMNS = ("episode_id", "task", "calls.list.element.messages", "calls.list.element.response")
_REMEMBERED = 500
"""Steps whose results are kept."""


class TextSearch:
    """Searches one run. Any thread."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._found: OrderedDict[tuple[str, int, int], set[str]] = OrderedDict()
        self._lock = threading.Lock()

    def search(self, text: str, steps: Iterable[int]) -> tuple[set[str], list[int]]:
        """Ids of the episodes that say it, and the steps that were left out for lack of time."""
        deadline = time.monotonic() + TIME_S
        found: set[str] = set()
        left_out = []
        for step in steps:
            if time.monotonic() > deadline:
                left_out.append(step)
            else:
                found |= self._in_step(text, step)
        return found, left_out

    def _in_step(self, text: str, step: int) -> set[str]:
        path = call_path(self._run_dir, step)
        try:
            key = (text, step, path.stat().st_mtime_ns)
        except OSError:
            return set()
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        found = _search_file(path, text)
        with self._lock:
            self._found[key] = found
            while len(self._found) > _REMEMBERED:
                self._found.popitem(last=False)
        return found


def _search_file(path: Path, text: str) -> set[str]:
    # Messages are stored as JSON, which writes quotes and all that is not ASCII in its own way.
    pattern = json.dumps(text)[1:-1]
    try:
        table = column_of(path, _COLUMNS)
    except UnreadableError:
        return set()
    if table is None or not table.num_rows:
        return set()
    ids = table.column("episode_id").combine_chunks()
    says = _matches(table.column("task").combine_chunks(), pattern)
    calls = table.column("calls").combine_chunks()
    parents = pc.list_parent_indices(calls).to_numpy(zero_copy_only=False)
    structs = calls.flatten()
    for number in range(structs.type.num_fields):
        hits = _matches(structs.flatten()[number], pattern)
        says[parents[np.flatnonzero(hits)]] = True
    return set(ids.filter(pa.array(says)).to_pylist())


def _matches(texts: pa.Array, pattern: str) -> np.ndarray:
    matches = pc.match_substring(texts, pattern, ignore_case=True).fill_null(False)
    return np.array(matches.to_numpy(zero_copy_only=False), bool)
