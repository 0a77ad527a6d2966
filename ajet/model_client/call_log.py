"""The run's record of its calls to other models, and their budget."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ModelBudgetError

logger = logging.getLogger(__name__)

FILE_NAME = "model_calls.jsonl"
BUDGET_FILE_NAME = "model_budget.sqlite"


class CallLog:
    """Appends a line per question to `model_calls.jsonl`; several processes may write it."""

    def __init__(self) -> None:
        self._has_failed = False

    def write(self, folder: Path | None, record: dict[str, Any]) -> None:
        """Append one record; without a folder, or on a full disk, nothing is written."""
        if folder is None:
            return
        line = json.dumps(record, ensure_ascii=True, default=str) + "\n"
        try:
            # One write of one line: lines of several processes do not mix.
            file = os.open(folder / FILE_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        except OSError as error:
            if not self._has_failed:
                logger.warning("calls of models are not recorded: %s: %s", folder, error)
            self._has_failed = True


class CallBudget:
    """Counts the calls and tokens of a run against its limits, over processes and resumed runs.

    Args:
        config: has the limits.
        purpose: what the model is asked for; each purpose has a budget of its own.
        folder: of the run; None: calls are counted in memory.
    """

    def __init__(self, config: ModelClientConfig, purpose: str, folder: Path | None) -> None:
        self._config = config
        self._purpose = purpose
        self._database: sqlite3.Connection | None = None
        if config.max_calls is None and config.max_total_tokens is None:
            return
        path = folder / BUDGET_FILE_NAME if folder else ":memory:"
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS used (purpose TEXT PRIMARY KEY, calls INT, tokens INT)"
        )
        self._database.execute("INSERT OR IGNORE INTO used VALUES (?, 0, 0)", (purpose,))

    def take_call(self) -> None:
        """Count a call that is about to be made.

        Raises:
            ModelBudgetError: the budget is used up.
        """
        if self._database is None:
            return
        config = self._config
        taken = self._database.execute(
            "UPDATE used SET calls = calls + 1 WHERE purpose = ? AND calls < ? AND tokens < ?",
            (self._purpose, config.max_calls or 2**62, config.max_total_tokens or 2**62),
        ).rowcount
        if not taken:
            calls, tokens = self._database.execute(
                "SELECT calls, tokens FROM used WHERE purpose = ?", (self._purpose,)
            ).fetchone()
            raise ModelBudgetError(
                f"model {config.model} ({self._purpose}): the budget is used up with {calls:,} "
                f"calls and {tokens:,} tokens (max_calls {config.max_calls or 'none'}, "
                f"max_total_tokens {config.max_total_tokens or 'none'})"
            )

    def add_tokens(self, tokens: int) -> None:
        """Count the tokens of a call that was answered."""
        if self._database is not None:
            self._database.execute(
                "UPDATE used SET tokens = tokens + ? WHERE purpose = ?", (tokens, self._purpose)
            )
