"""The SQLite database of AgentScope Studio, in its former and its current layout.

Both have a table `span_table`. Before, a span had `startTime`, and a message was Python text in its
attribute `input`. Now it has `spanId` and `startTimeUnixNano`, and messages follow the GenAI
conventions, under nested or dotted names.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ajet.errors import DataError
from ajet.tracing.otel_json import span_of
from ajet.tracing.spans import Span

MAGIC = b"SQLite format 3\x00"
TABLE = "span_table"
BUSY_S = 10.0
"""How long to wait for a program that has locked the database."""


def is_database(path: Path) -> bool:
    """Whether the file is an SQLite database."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_spans(path: Path, stored: dict[str, Any] | None) -> tuple[list[Span], dict[str, Any]]:
    """The spans that were added after a stored position, and the new position.

    Raises:
        DataError: the database is damaged, locked, or none of AgentScope Studio.
    """
    stored = stored or {}
    try:
        with _connected(path) as connection:
            after = _resume_at(connection, path, stored)
            rows = connection.execute(
                f"SELECT rowid AS row_number, * FROM {TABLE} WHERE rowid > ? ORDER BY rowid",
                (after,),
            )
            spans, position = [], {"row": after, "id": stored.get("id", "")}
            for row in rows:
                spans.append(_span(dict(row), path))
                position = {"row": row["row_number"], "id": str(row["id"])}
            return spans, position
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be read: {error}{_advice(error)}") from error


def _resume_at(connection: sqlite3.Connection, path: Path, stored: dict[str, Any]) -> int:
    """The row after which to read: the stored one, if it is still the same row."""
    columns = [row["name"] for row in connection.execute(f"PRAGMA table_info({TABLE})")]
    if not {"id", "name", "attributes"} <= set(columns):
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = ", ".join(row["name"] for row in tables) or "none"
        raise DataError(
            f"{path}: no table {TABLE} with id, name and attributes: expected a database of "
            f"AgentScope Studio; the tables are {names}"
        )
    after = int(stored.get("row", 0))
    found = connection.execute(f"SELECT id FROM {TABLE} WHERE rowid = ?", (after,)).fetchone()
    return after if found and str(found["id"]) == stored.get("id") else 0


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing.

    A database with a write-ahead log needs a file beside it even to be read. Where none can be
    made, a copy is read.
    """
    try:
        with closing(_open(path)) as connection:
            connection.execute(f"PRAGMA table_info({TABLE})").fetchall()
            yield connection
            return
    except sqlite3.OperationalError as error:
        if "unable to open" not in str(error) and "readonly" not in str(error):
            raise
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            if (file := path.with_name(path.name + suffix)).is_file():
                shutil.copyfile(file, Path(folder) / f"copy.sqlite{suffix}")
        with closing(sqlite3.connect(Path(folder) / "copy.sqlite")) as connection:
            yield _set_up(connection)


def _open(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return _set_up(sqlite3.connect(uri, uri=True, timeout=BUSY_S))


def _set_up(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _span(row: dict[str, Any], path: Path) -> Span:
    values = {key: _json(value) for key, value in row.items()}
    # Formerly the id of the row was the id of the span.
    values["spanId"] = values.get("spanId") or row["id"]
    values["name"] = row["name"]
    span = span_of(values, f"{path}:{row['row_number']}")
    if run := row.get("runId"):
        span.attributes.setdefault("project.run_id", run)
    return span


def _json(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def _advice(error: sqlite3.Error) -> str:
    if "locked" in str(error) or "busy" in str(error):
        return ": another program is writing to it; stop that program, or import a copy"
    if "malformed" in str(error) or "not a database" in str(error):
        return ": it is damaged or incomplete; copy it again while the Studio is stopped"
    return ""
