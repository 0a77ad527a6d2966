"""Answers on disk, by the content of the question, in one SQLite file for all processes."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FILE_NAME = "answers.sqlite"
BUSY_S = 30.0
"""How long a process waits while others write."""


class AnswerCache:
    """Keeps the first answer to each question. A file that cannot be used is reported once.

    Args:
        folder: the folder of the file; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._path = folder / FILE_NAME if folder else None
        self._database: sqlite3.Connection | None = None
        self._is_broken = folder is None

    def get(self, key: str) -> dict[str, Any] | None:
        """The kept answer, or None."""
        rows = self._execute("SELECT answer FROM answers WHERE key = ?", key)
        answer: dict[str, Any] | None = json.loads(rows[0][0]) if rows else None
        return answer

    def put(self, key: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Keep an answer; returns the one that counts, which another process may have kept first.

        So two runs that share the file always agree on an answer, whoever asked first.
        """
        kept = self._execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?) RETURNING key", key, json.dumps(answer)
        )
        return answer if kept else self.get(key) or answer

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database:
                self._database.close()
                self._database = None

    def _execute(self, statement: str, *values: str) -> list[tuple[str]]:
        if self._is_broken:
            return []
        try:
            with self._lock:
                if self._database is None:
                    self._database = self._open()
                return self._database.execute(statement, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            self._is_broken = True
            logger.warning("answers of models are not kept: %s: %s", self._path, error)
            return []

    def _open(self) -> sqlite3.Connection:
        assert self._path, "without a path the cache counts as broken"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self._path, timeout=BUSY_S, check_same_thread=False, isolation_level=None
        )
        database.execute("PRAGMA journal_mode = WAL")
        # A power cut may lose the last answers, which are then asked for again.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)"
        )
        return database
