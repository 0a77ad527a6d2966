"""Normalizes the messages of requests, so that a history that a client sends back is recognised.

Clients write the same message in many ways: content as a string or as text parts, None for "",
arguments serialised again. Here all of them get one shape. What is *trained* never depends on it:
ids are taken from the record.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

from ajet.errors import RequestError

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_ROLES |= {"tool": "tool", "function": "tool"}


def normalize_messages(messages: list[dict[str, Any]], start: int = 0) -> list[dict[str, Any]]:
    """Normalize a request's messages from position `start` on.

    Raises:
        RequestError: a message is malformed or not text; the error names it.
    """
    if not messages:
        raise RequestError("messages: empty; expected at least one message", param="messages")
    return [_normalize(message, i) for i, message in enumerate(messages[start:], start)]


def history_key(message: dict[str, Any]) -> Hashable:
    """A key that two normalized messages share if they are the same turn.

    Reasoning is no part of it, because clients rarely send it back; the recorded ids contain it.
    """
    calls = message.get("tool_calls")
    key = (message["role"], message["content"], message.get("tool_call_id"), message.get("name"))
    return key if not calls else (*key, tuple(_tool_call_key(call) for call in calls))


def _normalize(message: dict[str, Any], position: int) -> dict[str, Any]:
    where = f"messages[{position}]"
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise RequestError(
            f"{where}.role: got {message.get('role')!r}; expected system, developer, user, "
            "assistant or tool",
            param=f"{where}.role",
        )
    content = _text(message.get("content"), f"{where}.content")
    if not content and message.get("refusal"):
        content = _text(message["refusal"], f"{where}.refusal")
    normal: dict[str, Any] = {"role": role, "content": content}
    for optional in ("tool_call_id", "reasoning_content"):
        if message.get(optional):
            normal[optional] = _text(message[optional], f"{where}.{optional}")
    if role == "tool" and message.get("name"):
        normal["name"] = _text(message["name"], f"{where}.name")
    if message.get("tool_calls"):
        normal["tool_calls"] = _tool_calls(message["tool_calls"], f"{where}.tool_calls")
    return normal


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestError(
            f"{where}: got {type(content).__name__}; expected text or a list of parts",
            param=where,
        )
    return "".join(_text_of_part(part, where) for part in content)


def _text_of_part(part: Any, where: str) -> str:
    text = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise RequestError(f"{where}: a part of type {kind!r}; only text is supported", param=where)
    return text


def _tool_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise RequestError(f"{where}: got {type(calls).__name__}; expected a list", param=where)
    return [_normalize_tool_call(call, where) for call in calls]


def _normalize_tool_call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RequestError(
            f"{where}: got {call!r}; expected "
            '{"id": ..., "type": "function", "function": {"name": ..., "arguments": ...}}',
            param=where,
        )
    return {
        "id": _text(call.get("id"), f"{where}.id") or None,
        "type": "function",
        "function": {"name": function["name"], "arguments": _arguments(function.get("arguments"))},
    }


def _arguments(arguments: Any) -> Any:
    """Arguments, parsed if they are JSON: clients serialise the same object in different ways."""
    if not isinstance(arguments, str):
        return arguments if arguments is not None else {}
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _tool_call_key(call: dict[str, Any]) -> Hashable:
    function = call["function"]
    arguments = json.dumps(function["arguments"], sort_keys=True, ensure_ascii=False)
    return (call["id"], function["name"], arguments)
