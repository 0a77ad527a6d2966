"""An index of `episodes.jsonl` in memory, so that 100,000 episodes can be filtered and sorted.

It is filled by a thread of its own and follows the file while a run writes it.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ajet.monitor.episode_log import FILE_NAME
from ajet.viewer.line_follower import FollowedLine, LineFollower

COLUMNS = {
    "step": "INTEGER",
    "phase": "TEXT",
    "episode_id": "TEXT",
    "task_id": "TEXT",
    "repeat_index": "INTEGER",
    "outcome": "TEXT",
    "reward": "REAL",
    "is_success": "INTEGER",
    "cause": "TEXT",
    "retries": "INTEGER",
    "num_calls": "INTEGER",
    "agents": "TEXT",
    "sampled": "INTEGER",
    "length": "INTEGER",
    "trained": "INTEGER",
    "dropped": "INTEGER",
    "started_s": "REAL",
    "duration_s": "REAL",
    "line_offset": "INTEGER",
    "line_length": "INTEGER",
}
"""`length`: tokens of the training sequences; `agents`: names between `SEPARATOR`s."""

SEPARATOR = "\x1f"
INDEXES = {"by_step": "step, phase", "by_task": "task_id"}
CHUNK_BYTES = 2 * 1024 * 1024
"""Read and stored in one go: between two chunks, queries get their turn."""
MAX_CAUSE = 400
"""Characters of a cause in the index; the whole one is in the file."""


class EpisodeIndex:
    """The episodes of one run. Any thread."""

    def __init__(self, run_dir: Path) -> None:
        self._lines = LineFollower(run_dir / FILE_NAME)
        self._lock = threading.Lock()
        self._filling = threading.Lock()
        self._is_complete = threading.Event()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        self._database.execute(f"CREATE TABLE episodes ({columns})")

    def refresh(self, wait_s: float) -> None:
        """Take in what was added to the file; waits no longer than `wait_s` for it."""
        if self._lines.offset == self._lines.size() and self._is_complete.is_set():
            return
        self._is_complete.clear()
        threading.Thread(target=self._fill, name="episode-index", daemon=True).start()
        self._is_complete.wait(wait_s)

    def progress(self) -> dict[str, int]:
        """Bytes of the file that were read, bytes of the file, and damaged lines.

        `cut`: bytes at the end without a line feed, of a line that is being written or was cut.
        """
        lines = self._lines
        return {
            "done": lines.offset + lines.num_cut,
            "total": lines.size(),
            "damaged": lines.num_damaged,
            "cut": lines.num_cut,
        }

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of a SELECT; values come in only by `?`."""
        with self._lock:
            cursor = self._database.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def whole_record(self, offset: int, length: int) -> dict[str, Any]:
        """The line of an episode, with everything that the index leaves out."""
        try:
            with self._lines.path.open("rb") as file:
                file.seek(offset)
                record = json.loads(file.read(length))
        except (OSError, ValueError, RecursionError):  # the file was replaced meanwhile
            return {}
        return record if isinstance(record, dict) else {}

    def _fill(self) -> None:
        """To the end of the file as it is now."""
        if not self._filling.acquire(blocking=False):
            return  # another thread is at it
        try:
            stop = self._lines.size()
            while True:
                before = self._lines.offset
                # Read outside the lock: queries wait only while rows are stored.
                rows = [_row(line) for line in self._lines.read(CHUNK_BYTES)]
                self._store(row for row in rows if row is not None)
                # What has no line feed yet stays unread: the run is still writing it.
                if self._lines.offset >= stop or self._lines.offset == before:
                    break
            self._make_indexes()
        finally:
            self._filling.release()
            self._is_complete.set()

    def _store(self, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(COLUMNS))
        with self._lock:
            if self._lines.is_restarted:
                self._database.execute("DELETE FROM episodes")
            self._database.executemany(f"INSERT INTO episodes VALUES ({marks})", rows)

    def _make_indexes(self) -> None:
        """Only behind the first filling: it is faster without them."""
        with self._lock:
            for name, columns in INDEXES.items():
                self._database.execute(f"CREATE INDEX IF NOT EXISTS {name} ON episodes ({columns})")


def agent_names(stored: str | None) -> list[str]:
    """The names in the column `agents`."""
    return [name for name in (stored or "").split(SEPARATOR) if name]


def agent_names_in(index: EpisodeIndex) -> list[str]:
    """Every agent of a run."""
    rows = index.rows("SELECT DISTINCT agents FROM episodes LIMIT 200")
    return list(dict.fromkeys(name for row in rows for name in agent_names(row["agents"])))


def _row(line: FollowedLine) -> tuple[Any, ...] | None:
    """The columns of a record; None where it is no episode's."""
    record = line.record
    step, episode_id = _integer(record.get("step")), _text(record.get("episode_id"))
    if step is None or not episode_id:
        return None
    tokens = record.get("tokens")
    tokens = tokens if isinstance(tokens, dict) else {}
    agents = record.get("agents")
    names = [_text(name) or "" for name in agents] if isinstance(agents, dict) else []
    dropped = record.get("dropped_tokens")
    lost = list(dropped.values()) if isinstance(dropped, dict) else []
    success = record.get("is_success")
    cause = _text(record.get("cause"))
    return (
        step,
        _text(record.get("phase")) or "",
        episode_id,
        _text(record.get("task_id")) or "",
        _integer(record.get("repeat_index")),
        _text(record.get("outcome")) or "",
        _number(record.get("reward")),
        int(success) if isinstance(success, bool) else None,
        cause[:MAX_CAUSE] if cause else None,
        _integer(record.get("retries")),
        _integer(record.get("num_calls")),
        SEPARATOR.join(["", *names, ""]) if names else "",
        _integer(tokens.get("sampled")),
        _integer(tokens.get("trained_sequence")),
        _integer(tokens.get("trained")),
        sum(number for each in lost if (number := _integer(each))),
        _number(record.get("started_s")),
        _number(record.get("duration_s")),
        line.offset,
        line.length,
    )


def _integer(value: Any) -> int | None:
    is_one = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62
    return value if is_one else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str | None:
    """As UTF-8 can hold it: a lone surrogate becomes its escape."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()
