"""Reads a message that a log has as Python text: `Msg(name='user', content='Hi', role='user')`."""

from __future__ import annotations

import ast
from typing import Any

MAX_CHARS = 1_000_000
"""Longest text that is parsed."""


def message_in_text(text: str) -> dict[str, Any] | None:
    """The message that a text describes; None if it describes none.

    The text is parsed, never run. Arguments that are no literals are left out.
    """
    text = text.strip()
    if not text.startswith("Msg(") or len(text) > MAX_CHARS:
        return None
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    message = {}
    for keyword in call.keywords:
        try:
            message[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return message if "role" in message and "content" in message else None
