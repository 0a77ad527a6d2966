"""The calls of an episode as turns that a person can read; long texts are cut, and say so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CUT = 4000
"""Characters of a text that a page shows at first."""

REASONS = {
    "first_call": "first call of its agent",
    "new_conversation": "new conversation: nothing but system messages was sent before",
    "repeated_request": "repeated request: the same messages were sent before (retry, best of n)",
    "another_agent": "another agent: the messages continue a call of another agent",
    "history_edited": "history edited: the messages leave every recorded history somewhere",
    "tools_changed": "tools changed: the messages continue a call, but offer other tools",
    "template_rewrote_history": (
        "template rewrote history: the messages continue a call, but the chat format renders "
        "its tokens differently"
    ),
}
"""Why a call begins a timeline, in words."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Part:
    """A piece of a message."""

    kind: str
    """text, thinking, tool_call, or what the message calls it."""
    text: str
    name: str = ""
    """Of the tool."""


def reason_text(reason: str | None) -> str | None:
    """Why a timeline begins; the recorded word where it is not a known one."""
    return None if reason is None else REASONS.get(reason, reason.replace("_", " "))


def parts_of(message: Any) -> list[Part]:
    """What a message says, in order. Whatever its shape, this does not fail."""
    if not isinstance(message, dict):
        return [Part(kind="text", text=_as_text(message))]
    parts = []
    if message.get("reasoning_content"):
        parts.append(Part(kind="thinking", text=_as_text(message["reasoning_content"])))
    parts += _content_parts(message.get("content"))
    tool_calls = message.get("tool_calls")
    for tool_call in tool_calls if isinstance(tool_calls, list) else []:
        function = tool_call.get("function", tool_call) if isinstance(tool_call, dict) else {}
        function = function if isinstance(function, dict) else {}
        arguments = _as_text(function.get("arguments", tool_call))
        name = _as_text(function.get("name", ""))
        parts.append(Part(kind="tool_call", text=arguments, name=name))
    return parts


def shown_message(message: Any, call: int, number: int) -> dict[str, Any]:
    """A message for a page.

    Args:
        message: as stored.
        call: index of the call that it belongs to.
        number: position among the call's messages; -1 is the answer.
    """
    fields = message if isinstance(message, dict) else {}
    return {
        "role": _as_text(fields.get("role", "")),
        "name": _as_text(fields.get("name", "")),
        "tool_call_id": _as_text(fields.get("tool_call_id", "")),
        "parts": [
            {
                "kind": part.kind,
                "name": part.name,
                "text": part.text[:CUT],
                "total": len(part.text),
                "at": [call, number, position],
            }
            for position, part in enumerate(parts_of(message))
        ],
    }


def conversation_text(messages: Sequence[Any]) -> str:
    """All texts of messages, one below the other."""
    return "\n".join(part.text for message in messages for part in parts_of(message))


def _content_parts(content: Any) -> list[Part]:
    if content is None or content == "":
        return []
    if not isinstance(content, list):
        return [Part(kind="text", text=_as_text(content))]
    parts = []
    for piece in content:
        if isinstance(piece, dict):
            kind = _as_text(piece.get("type", "text"))
            is_text = isinstance(piece.get("text"), str)
            parts.append(Part(kind=kind, text=piece["text"] if is_text else _as_text(piece)))
        else:
            parts.append(Part(kind="text", text=_as_text(piece)))
    return parts


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
