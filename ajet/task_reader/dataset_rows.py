"""Rows of a table as tasks: which column is the query, and columns as JSON values."""

from __future__ import annotations

import datetime
import decimal
import marshal
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from ajet.config.sections.task_reader import HuggingFaceConfig
from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.chat_columns import chat_column, last_text, opening, with_system

QUERY_COLUMNS = ("question", "query", "prompt", "problem", "main_query")
"""Where a query is looked for, in this order."""
MEDIA = {"Image": "images", "Audio": "audio", "Video": "videos", "Pdf": "PDF files"}
"""Feature types of `datasets` that have no JSON form."""


@dataclass(slots=True, kw_only=True, frozen=True)
class TaskColumns:
    """The columns of a table that have a meaning for tasks."""

    query: str | None
    """None: the last user message is the query."""
    messages: str | None
    """Chat messages; None: there are none."""
    answer: str | None
    is_plain: bool
    """Whether every column holds texts, numbers or truth values."""
    has_json: bool
    """Whether a column holds JSON of any shape, which Arrow stores as text."""
    section: str
    """The section of the configuration, for messages."""

    @classmethod
    def choose(
        cls,
        features: Mapping[str, Any],
        settings: HuggingFaceConfig,
        *,
        first_row: Callable[[], Mapping[str, Any]],
        source: str,
        section: str,
    ) -> TaskColumns:
        """Find the columns in a table's schema.

        Args:
            features: column name -> type, as `datasets` describes a table.
            settings: names columns.
            first_row: asked for where a type does not tell what a column holds.
            source: the table, for messages.
            section: the section of the configuration, for messages.

        Raises:
            DataError: a column that the settings name is missing, none holds a query, or one
                holds what has no JSON form.
        """
        names = ", ".join(features) or "none"
        for key in ("query_key", "answer_key"):
            if (name := getattr(settings, key)) and name not in features:
                raise DataError(
                    f'{section}.{key}: {source} has no column "{name}"; the columns are {names}'
                )
        for name, kind in features.items():
            if media := _media_in(kind):
                raise DataError(
                    f'{section}: column "{name}" of {source} holds {media}, which have no JSON '
                    f"form: add it to {section}.drop_columns"
                )
        messages = chat_column(features, settings.query_key, first_row)
        query = settings.query_key or next(
            (name for name in QUERY_COLUMNS if name in features and name != messages), None
        )
        if query == messages:  # named by query_key: the last user message is the query
            query = None
        if query is None and messages is None:
            raise DataError(
                f"{section}.query_key: {source} has none of the columns "
                f"{', '.join(QUERY_COLUMNS)}, and no chat messages; the columns are {names}: name "
                "the one that holds the query"
            )
        return cls(
            query=query,
            messages=messages,
            answer=settings.answer_key,
            section=section,
            is_plain=all(_is_plain(kind) for kind in features.values()),
            has_json=any("Json(" in repr(kind) for kind in features.values()),
        )

    def identities(
        self, columns: Mapping[str, list[Any]], place: Callable[[int], str], start: int
    ) -> Iterator[tuple[str, bytes]]:
        """Id and content of each row. Errors as for `task`.

        Args:
            columns: of some rows.
            place: from the index of a row to where it is, for messages.
            start: index of the first row.
        """
        rows = list(zip(*map(_with_nulls, columns.values()), strict=True))
        queries = columns[self.query] if self.is_plain and self.query else [None] * len(rows)
        ids = columns.get("task_id", [None] * len(rows))
        for index, (row, query, task_id) in enumerate(zip(rows, queries, ids, strict=True), start):
            if query and type(query) is str:  # the usual row
                is_named = task_id is not None and task_id != ""
                yield (str(task_id), b"") if is_named else ("", marshal.dumps(row, 2))
            else:
                task = self.task(dict(zip(columns, row, strict=True)), place(index))
                yield task.task_id, task.model_dump_json().encode()

    def task(self, row: Mapping[str, Any], place: str) -> Task:
        """A row as a task, with every column in its metadata.

        Messages up to the last user message become `init_messages`: what follows is the answer.

        Raises:
            DataError: a value has no JSON form, or the row has no query.
        """
        metadata = {
            name: _json_value(value, f'{place}: column "{name}"') for name, value in row.items()
        }
        messages = []
        if self.messages:
            messages = opening(metadata[self.messages], f'{place}: column "{self.messages}"')
            messages = with_system(messages, metadata.get("system"))
        query = metadata[self.query] if self.query else last_text(messages)
        if (query is None or query == "") and not messages:
            raise DataError(f'{place}: no query: column "{self.query or self.messages}" is empty')
        if self.answer:
            metadata["answer"] = metadata[self.answer]
        task_id = metadata.get("task_id")
        try:
            return Task(
                main_query="" if query is None else query,
                init_messages=messages,
                task_id="" if task_id is None else str(task_id),
                metadata=metadata,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f'{place}: column "{self.query}": {first["msg"]}, got {first["input"]!r} '
                f"({self.section}.query_key names the column to use)"
            ) from error


def _with_nulls(values: list[Any]) -> list[Any]:
    """A column with null in place of NaN and infinity, as a task's content has it."""
    if type(next((value for value in values if value is not None), None)) is not float:
        return values
    return [value if value is None or math.isfinite(value) else None for value in values]


def _is_plain(kind: Any) -> bool:
    name = getattr(kind, "dtype", None)
    return type(kind).__name__ == "Value" and bool(
        re.fullmatch(r"string|large_string|bool|u?int\d+|float\d+", str(name))
    )


def _media_in(kind: Any) -> str | None:
    """What a column's type holds, at any depth, that has no JSON form; None: nothing."""
    if name := MEDIA.get(type(kind).__name__):
        return name
    inner = kind.values() if isinstance(kind, dict) else [getattr(kind, "feature", None)]
    return next((found for x in inner if x is not None and (found := _media_in(x))), None)


def _json_value(value: Any, place: str) -> Any:
    """The value with JSON types only: dates as ISO text, durations in seconds.

    Raises:
        DataError: it has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json_value(item, place) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item, place) for item in value]
    for kind, convert in CONVERSIONS.items():
        if isinstance(value, kind):
            return _json_value(convert(value), place)
    raise DataError(
        f"{place} holds {type(value).__name__}, which has no JSON form: add the column to "
        "drop_columns"
    )


CONVERSIONS: dict[type[Any], Callable[[Any], Any]] = {
    datetime.datetime: datetime.datetime.isoformat,  # before date: a datetime is a date, too
    datetime.date: datetime.date.isoformat,
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: datetime.timedelta.total_seconds,
    decimal.Decimal: str,
    np.ndarray: np.ndarray.tolist,
    np.generic: np.generic.item,
}
"""Type -> its JSON form."""
