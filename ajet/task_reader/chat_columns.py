"""Chat messages in the columns of a table.

Known are messages with `role` and `content`, as chat completions have them, and with `from` and
`value`, as ShareGPT wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ajet.errors import DataError

MESSAGE_COLUMNS = ("init_messages", "messages", "conversations", "conversation", "prompt")
"""Columns that are searched for chat messages, in this order."""
SHAPES = ({"role", "content"}, {"from", "value"})
"""The keys of a message."""
ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"} | {
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}
"""ShareGPT's names of roles -> those of chat completions."""


def chat_column(
    features: Mapping[str, Any], named: str | None, first_row: Callable[[], Mapping[str, Any]]
) -> str | None:
    """The column with chat messages; None: there is none.

    Args:
        features: column name -> type, as `datasets` describes a table.
        named: the column that the settings name as the query.
        first_row: asked for where a type does not tell what the column holds.
    """
    for name in (named, *MESSAGE_COLUMNS):
        kind = features.get(name) if name else None
        inner = kind[0] if isinstance(kind, list) and kind else getattr(kind, "feature", None)
        if type(inner).__name__ == "Json":  # objects of different shapes
            items = first_row().get(str(name))
            inner = items[0] if isinstance(items, list) and items else None
        if isinstance(inner, dict) and any(shape <= inner.keys() for shape in SHAPES):
            return name
    return None


def opening(messages: Any, place: str) -> list[dict[str, Any]]:
    """The messages up to the last one of a user, in the shape of chat completions.

    What follows is the answer. The nulls that tables fill in are left out.

    Raises:
        DataError: an item is no message, or none is of a user.
    """
    chat = [_message(each, place) for each in messages or []]
    users = [index for index, message in enumerate(chat) if message["role"] == "user"]
    if chat and not users:
        raise DataError(f"{place}: no message is of a user; expected at least one")
    return chat[: users[-1] + 1] if users else []


def with_system(messages: list[dict[str, Any]], text: Any) -> list[dict[str, Any]]:
    """The messages after a system prompt that has a column of its own."""
    if not messages or not text or not isinstance(text, str) or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": text}, *messages]


def last_text(messages: list[dict[str, Any]]) -> str:
    """The text of the last message; parts of it that are no text are left out."""
    content = messages[-1].get("content") if messages else ""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _message(value: Any, place: str) -> dict[str, Any]:
    keys = value if isinstance(value, Mapping) else {}
    role = keys.get("role", keys.get("from"))
    if not isinstance(role, str) or not role:
        raise DataError(
            f"{place}: got {value!r:.200}, expected a message with role and content, or with "
            "from and value"
        )
    if "role" in keys:
        return {key: _without_nulls(x) for key, x in keys.items() if x is not None}
    return {"role": ROLES.get(role, role), "content": keys.get("value") or ""}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(x) for key, x in value.items() if x is not None}
    return [_without_nulls(x) for x in value] if isinstance(value, list) else value
