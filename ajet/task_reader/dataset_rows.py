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

QUERY_COLUMNS = ("question", "query", "prompt", "problem", "main_query")
"""Where a query is looked for, in this order."""
MESSAGE_COLUMNS = ("init_messages", "messages", "conversations", "prompt")
"""Where chat messages are looked for: lists of objects with role and content."""
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
    section: str
    """The section of the configuration, for messages."""

    @classmethod
    def choose(
        cls, features: Mapping[str, Any], settings: HuggingFaceConfig, *, source: str, section: str
    ) -> TaskColumns:
        """Find the columns in a table's schema.

        Args:
            features: column name -> type, as `datasets` describes a table.
            settings: names columns.
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
        messages = next((x for x in MESSAGE_COLUMNS if _holds_messages(features.get(x))), None)
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
        messages = _opening(metadata[self.messages] or []) if self.messages else []
        query = metadata[self.query] if self.query else _text_of(messages)
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


def _holds_messages(kind: Any) -> bool:
    inner = kind[0] if isinstance(kind, list) and kind else getattr(kind, "feature", None)
    return isinstance(inner, dict) and {"role", "content"} <= inner.keys()


def _opening(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages up to the last user message, without the nulls that tables fill in."""
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    opening = messages[: users[-1] + 1] if users else messages
    return [{key: x for key, x in message.items() if x is not None} for message in opening]


def _text_of(messages: list[dict[str, Any]]) -> str:
    content = messages[-1].get("content") if messages else ""
    return content if isinstance(content, str) else ""


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
