"""Logged messages in the shape of chat completions, whatever API or convention they come from.

Known are the messages of OpenAI's chat completions and responses, of Anthropic, of Gemini, of the
GenAI conventions of OpenTelemetry, of OpenInference and of AgentScope. Reasoning is left out: the
model that is trained writes its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

HAS_MEDIA = "has_media"
"""Key of a message that had an image or other media, which a task cannot hold."""

ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "developer": "system"} | {
    "function": "tool",
    "tool_result": "tool",
}
"""Names of roles -> the name in chat completions."""

_MEDIA_KINDS = ("image", "image_url", "input_image", "audio", "input_audio", "video", "blob") + (
    "uri",
    "file",
    "input_file",
    "document",
)
_REASONING_KINDS = ("thinking", "redacted_thinking", "reasoning", "summary_text")


@dataclass(slots=True, kw_only=True)
class _Parts:
    """What the parts of one message hold."""

    texts: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    has_media: bool = False


def chat_messages(value: Any) -> list[dict[str, Any]]:
    """The messages of a request or answer.

    Args:
        value: one message or a list of them, as an object or as JSON text. Other text is the
            message of a user.
    """
    value = from_json_text(value)
    if isinstance(value, str):
        return [{"role": "user", "content": value}] if value else []
    items = value if isinstance(value, list) else [value]
    return [message for item in items for message in _of_item(item)]


def text_of(message: dict[str, Any]) -> str:
    """The text of a message in the shape of chat completions."""
    content = message.get("content")
    return content if isinstance(content, str) else ""


def tool_definitions(value: Any) -> list[dict[str, Any]]:
    """Tools in the shape of chat completions; what is no tool is left out."""
    value = from_json_text(value)
    tools = []
    for tool in value if isinstance(value, list) else []:
        tool = from_json_text(tool)
        if not isinstance(tool, dict):
            continue
        function = tool.get("function")
        given = function if isinstance(function, dict) else tool
        if not isinstance(given.get("name"), str):
            continue
        schema = given.get("parameters") or given.get("input_schema")
        described = {"name": given["name"], "description": given.get("description")}
        described["parameters"] = from_json_text(schema)
        described = {key: item for key, item in described.items() if item is not None}
        tools.append({"type": "function", "function": described})
    return tools


def from_json_text(value: Any) -> Any:
    """The object or list that a JSON text holds; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found
    return value


def _of_item(item: Any) -> Iterator[dict[str, Any]]:
    """The messages that one item of a list stands for: none, one, or one for each tool result."""
    if isinstance(item, str):
        yield {"role": "user", "content": item}
        return
    if not isinstance(item, dict):
        return
    if isinstance(item.get("message"), dict) and "role" not in item:  # OpenInference, choices
        item = item["message"]
    parts = _Parts()
    if "role" not in item and item.get("type", "message") != "message":
        _add_part(parts, item)  # an item of the responses API: a tool call, or its result
        role = "assistant"
    else:
        role = str(item.get("role") or "user")
        role = ROLES.get(role, role)
        for part in _parts_of(item):
            _add_part(parts, part)
        for call in _list(item.get("tool_calls")):
            _add_tool_call(parts, call)
        if isinstance(call := item.get("function_call"), dict):
            _add_tool_call(parts, call)
    yield from _messages(item, role, parts)


def _messages(item: dict[str, Any], role: str, parts: _Parts) -> Iterator[dict[str, Any]]:
    text = "\n".join(parts.texts)
    if role == "tool" and not parts.results:
        call_id = item.get("tool_call_id") or item.get("call_id") or item.get("id") or ""
        parts.results.append({"role": "tool", "tool_call_id": str(call_id), "content": text})
        text = ""
    yield from parts.results
    if not (text or parts.tool_calls or parts.has_media) and parts.results:
        return
    if not (text or parts.tool_calls or parts.has_media or "role" in item):
        return
    message: dict[str, Any] = {"role": role, "content": text}
    if parts.tool_calls:
        message["tool_calls"] = parts.tool_calls
    if parts.has_media:
        message[HAS_MEDIA] = True
    yield message


def _parts_of(item: dict[str, Any]) -> list[Any]:
    """The parts of a message; a text is one part."""
    for key in ("parts", "contents", "content"):
        if (content := item.get(key)) is not None:
            content = _content_parts(content)
            return content if isinstance(content, list) else [content]
    return []


def _content_parts(content: Any) -> Any:
    """Content that is a list of parts as JSON text, which some libraries log, as that list."""
    found = from_json_text(content)
    is_parts = isinstance(found, list) and found and all(map(_is_part, found))
    return found if is_parts or not isinstance(content, str) else content


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and "type" in value and bool(value.keys() & {"text", "content"})


def _add_part(parts: _Parts, part: Any) -> None:
    if isinstance(part, str):
        parts.texts.append(part)
        return
    if not isinstance(part, dict):
        return
    part = part.get("message_content", part)  # OpenInference
    kind = str(part.get("type", ""))
    if kind in _REASONING_KINDS:
        return
    if kind in _MEDIA_KINDS or part.keys() & {"inlineData", "fileData", "inline_data"}:
        parts.has_media = True
    elif kind in ("tool_use", "tool_call", "function_call") or "functionCall" in part:
        _add_tool_call(parts, part.get("functionCall") or part)
    elif kind in ("tool_result", "tool_call_response", "function_call_output"):
        _add_result(parts, part)
    elif isinstance(response := part.get("functionResponse"), dict):
        _add_result(parts, response)
    else:
        text = part.get("text", part.get("content", part.get("refusal")))
        if isinstance(text, dict):
            text = text.get("value")
        if isinstance(text, str):
            parts.texts.append(text)


def _add_tool_call(parts: _Parts, call: Any) -> None:
    if not isinstance(call, dict):
        return
    call = call.get("tool_call", call)  # OpenInference
    function = call.get("function") if isinstance(call.get("function"), dict) else call
    keys = ("arguments", "input", "args")
    arguments: Any = next((function[key] for key in keys if function.get(key) is not None), {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    call_id = call.get("call_id") or call.get("id") or ""
    name = str(function.get("name") or "")
    described = {"name": name, "arguments": arguments}
    parts.tool_calls.append({"id": str(call_id), "type": "function", "function": described})


def _add_result(parts: _Parts, part: dict[str, Any]) -> None:
    keys = ("tool_use_id", "tool_call_id", "call_id", "id")
    call_id = next((part[key] for key in keys if part.get(key)), "")
    keys = ("response", "result", "output", "content")
    result = next((part[key] for key in keys if part.get(key) is not None), "")
    if isinstance(result, list):  # blocks of text
        inner = _Parts()
        for block in result:
            _add_part(inner, block)
        result = "\n".join(inner.texts) if inner.texts else json.dumps(result, ensure_ascii=False)
    elif not isinstance(result, str):
        result = json.dumps(result, ensure_ascii=False)
    parts.results.append({"role": "tool", "tool_call_id": str(call_id), "content": result})


def _list(value: Any) -> list[Any]:
    value = from_json_text(value)
    return value if isinstance(value, list) else []
