"""Finds the markup around a tool call in a chat format, as ids, by rendering calls.

No format is known here by name: calls that differ only in what the model would choose are
rendered, and what they have in common is the markup.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import takewhile
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat

_HISTORY = [{"role": "user", "content": "?"}]
_PARAMETERS = {"type": "object", "properties": {"a": {"type": "string"}}}
_ARGUMENTS: tuple[dict[str, str], ...] = ({}, {"a": "b"})


@lru_cache(maxsize=256)
def call_opening(chat_format: ChatFormat, names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The ids that begin an assistant's turn that starts with a call of one of `names`.

    They reach as far as the possible calls agree: up to the arguments if there is one name. None if
    no turn of the format can begin with a call, for example because each begins with thinking.
    """
    calls = []
    for name in names:
        for arguments in _ARGUMENTS:
            ids = _rendered(chat_format, name, arguments)
            if ids is None:
                return None
            calls.append(ids)
    common = takewhile(lambda column: len(set(column)) == 1, zip(*calls, strict=False))
    return tuple(column[0] for column in common) or None


@lru_cache(maxsize=8)
def call_closing(chat_format: ChatFormat) -> int | None:
    """The id that ends a tool call and occurs nowhere else in it; None if there is none."""
    closings = set()
    for arguments in _ARGUMENTS:
        ids = _rendered(chat_format, "f", arguments)
        if ids is None:
            return None
        end = next(
            n for n in range(1, len(ids) + 1) if _is_call(chat_format, ids[:n], "f", arguments)
        )
        closings.add(None if ids[end - 1] in ids[: end - 1] else ids[end - 1])
    return closings.pop() if len(closings) == 1 else None


def _rendered(chat_format: ChatFormat, name: str, arguments: dict[str, str]) -> list[int] | None:
    """The ids of a turn with one call and no text; None if parsing does not give the call back."""
    tools = _tools(name)
    function = {"name": name, "arguments": arguments}
    call = {"id": f"functions.{name}:0", "type": "function", "function": function}
    turn: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [call]}
    head = chat_format.render(_HISTORY, tools)
    whole = chat_format.render([*_HISTORY, turn], tools)
    ids = whole[len(head) :]
    is_read_back = whole[: len(head)] == head and _is_call(chat_format, ids, name, arguments)
    return ids if is_read_back else None


def _is_call(chat_format: ChatFormat, ids: list[int], name: str, arguments: dict[str, str]) -> bool:
    tools = _tools(name)
    parsed = chat_format.parse(ids, chat_format.render(_HISTORY, tools), tools)
    return parsed.tool_calls == [(name, arguments)] and not parsed.malformed_tool_calls


def _tools(name: str) -> list[dict[str, Any]]:
    function = {"name": name, "description": "", "parameters": _PARAMETERS}
    return [{"type": "function", "function": function}]
