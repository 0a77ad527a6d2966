"""Translates a request of the Messages API to the gateway's own request."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ajet.gateway.request import (
    HISTORY,
    PROVIDER,
    THINKING,
    ChatRequest,
    Parameters,
    invalid,
    parse_chat_request,
    read_parameters,
    unsupported,
)

WITHOUT_EFFECT = {
    **dict.fromkeys(("metadata", "service_tier", "cache_control", "user_profile_id"), PROVIDER),
    **dict.fromkeys(("workspace_id", "inference_geo", "speed", "diagnostics", "betas"), PROVIDER),
    **dict.fromkeys(("billing_policy", "fallbacks", "fallback_credit_token"), PROVIDER),
    # Hints that coding agents always send.
    **dict.fromkeys(("thinking", "output_config.effort"), THINKING),
    "context_management": HISTORY,
}
_IGNORED = {"model", *WITHOUT_EFFECT}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "compaction": (),
    "container": (),
    "mcp_servers": ([],),
    "thread": (),
}


_Message = dict[str, Any]


class ToolChoice(Parameters):
    """Which tool may or must be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class OutputConfig(Parameters):
    """How the answer should look."""

    effort: str | None = None
    """Accepted and ignored: a hint for models that can think more or less."""
    format: dict[str, Any] | None = None
    """The JSON schema of the answer: `{"type": "json_schema", "schema": {...}}`."""


class CountTokensRequest(BaseModel):
    """The parameters of `count_tokens` that are honoured."""

    model_config = ConfigDict(extra="forbid")

    messages: list[dict[str, Any]]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None
    """An earlier place of `output_config.format`."""


class MessagesRequest(CountTokensRequest):
    """The parameters of the Messages API that are honoured."""

    max_tokens: int = Field(ge=1)
    stop_sequences: list[str] | None = None
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    stream: bool | None = None


def to_chat_request(body: Any) -> ChatRequest:
    """Parse a request's body and translate it.

    If the last message is the assistant's, the answer continues it. The field `is_error` of a tool
    result is ignored, because chat formats have no place for it: the result's text must say it.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    request = read_parameters(body, MessagesRequest, without_effect=_IGNORED, neutral=_NEUTRAL)
    choice = request.tool_choice
    return parse_chat_request(
        {
            **_prompt_fields(request),
            "parallel_tool_calls": not (choice and choice.disable_parallel_tool_use),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "stop": request.stop_sequences,
            "stream": request.stream,
        }
    )


def to_counted_request(body: Any) -> ChatRequest:
    """The same for a request that only counts the tokens of its prompt.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    request = read_parameters(body, CountTokensRequest, without_effect=_IGNORED, neutral=_NEUTRAL)
    return parse_chat_request(_prompt_fields(request))


def _prompt_fields(request: CountTokensRequest) -> dict[str, Any]:
    """The parameters that decide about the prompt, in the shape of the chat-completions API."""
    messages = _chat_messages(request.messages)
    if request.system:
        system = request.system if isinstance(request.system, str) else _apart(request.system)
        messages.insert(0, {"role": "system", "content": system})
    tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(request.tools or [])]
    return {
        "messages": messages,
        "continue_final_message": messages[-1:] != [] and messages[-1]["role"] == "assistant",
        "tools": tools or None,
        "tool_choice": None if request.tool_choice is None else _tool_choice(request.tool_choice),
        "response_format": _response_format(request),
    }


def _response_format(request: CountTokensRequest) -> dict[str, Any] | None:
    config = request.output_config
    given = (config.format if config else None) or request.output_format
    if given is None or given.get("type") != "json_schema":
        return given  # the chat-completions API refuses other types by name
    return {"type": "json_schema", "json_schema": {"schema": given.get("schema")}}


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise unsupported(f"{where}.type", tool["type"], "only tools that the client runs are")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise invalid(f"{where}.input_schema", schema, "a JSON schema")
    description = {"description": tool["description"]} if tool.get("description") else {}
    function = {"name": tool.get("name"), **description, "parameters": schema}
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return "required" if choice.type == "any" else choice.type


def _chat_messages(messages: list[_Message]) -> list[_Message]:
    """Messages of content blocks as chat messages."""
    found: list[_Message] = []
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise invalid(f"{where}.role", role, "user, assistant or system")
        if not isinstance(content, list):
            found.append({"role": role, "content": content})
        elif role == "assistant":
            found.append(_assistant(content, f"{where}.content"))
        else:
            found += _user_or_system(role, content, f"{where}.content")
    return found


def _assistant(blocks: list[Any], where: str) -> _Message:
    message: _Message = {"role": "assistant", "content": []}
    reasoning, calls = [], []
    for position, block in enumerate(blocks):
        kind = _kind(block, f"{where}[{position}]")
        if kind == "text":
            message["content"].append(block)
        elif kind == "thinking":
            reasoning.append({"text": block.get("thinking")})
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": block.get("input")}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind != "redacted_thinking":
            raise unsupported(f"{where}[{position}].type", kind, "leave such blocks out")
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _user_or_system(role: str, blocks: list[Any], where: str) -> list[_Message]:
    """One chat message per tool result, and one for each run of text blocks."""
    messages: list[_Message] = []
    for position, block in enumerate(blocks):
        kind = _kind(block, f"{where}[{position}]")
        if kind == "tool_result" and role == "user":
            call_id = block.get("tool_use_id")
            if not isinstance(call_id, str):
                raise invalid(f"{where}[{position}].tool_use_id", call_id, "a tool use's id")
            result = {"role": "tool", "tool_call_id": call_id, "content": block.get("content")}
            messages.append(result)
        elif kind != "text":
            raise unsupported(f"{where}[{position}].type", kind, "leave such blocks out")
        elif messages and messages[-1]["role"] == role:
            messages[-1]["content"].append(block)
        else:
            messages.append({"role": role, "content": [block]})
    for message in messages:
        if message["role"] == role:
            message["content"] = _apart(message["content"])
    return messages or [{"role": role, "content": []}]


def _apart(blocks: list[Any]) -> list[Any]:
    """Text blocks with a line feed between two whose words would be glued together."""
    parts: list[Any] = []
    for block in blocks:
        ends, starts = (_text_of(one) for one in (parts[-1] if parts else None, block))
        if ends[-1:].strip() and starts[:1].strip():
            parts.append("\n")
        parts.append(block)
    return parts


def _text_of(block: Any) -> str:
    text = block.get("text") if isinstance(block, dict) else None
    return text if isinstance(text, str) else ""  # what is no text is refused with the message


def _kind(block: Any, where: str) -> Any:
    if not isinstance(block, dict):
        raise invalid(where, block, "a content block")
    return block.get("type")
