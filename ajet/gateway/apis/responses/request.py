"""Translates a request of the Responses API to the gateway's own request.

One turn of the assistant may be several items of `input` (reasoning, a message, function calls).
They are joined to the one message that the gateway answered with, so that the turn is recognised
in the record.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ajet.gateway.request import (
    HISTORY,
    LENGTH,
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
    **dict.fromkeys(("user", "service_tier", "safety_identifier", "stream_options"), PROVIDER),
    **dict.fromkeys(("prompt_cache_key", "prompt_cache_retention"), PROVIDER),
    **dict.fromkeys(("prompt_cache_options", "access_programs", "background_options"), PROVIDER),
    "context_management": HISTORY,
    "include": "the answer has no such parts",
    "max_tool_calls": "it counts calls of the provider's own tools",
    "text.verbosity": LENGTH,
    **dict.fromkeys(("reasoning.effort", "reasoning.summary", "reasoning.mode"), THINKING),
    "reasoning.generate_summary": THINKING,
}
_IGNORED = {"model", *WITHOUT_EFFECT} - {"include"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "image": (),
    "moderation": (),
    "prompt": (),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}


class TextConfig(Parameters):
    """How the answer's text should look."""

    format: dict[str, Any] | None = None
    """`{"type": "json_schema", "name": ..., "schema": {...}}`, `json_object` or `text`."""
    verbosity: str | None = None
    """Accepted and ignored."""


class ReasoningConfig(Parameters):
    """How a reasoning model should think: accepted and ignored, except for `context`."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    mode: str | None = None
    context: Literal["auto"] | None = None
    """Other values would change which reasoning the prompt shows; the chat format decides that."""


class ResponsesRequest(BaseModel):
    """The parameters of the Responses API that are honoured."""

    model_config = ConfigDict(extra="forbid")

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    include: list[str] | None = None
    """Parts to add to the answer. It has none of them, and logprobs are refused."""
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    stream: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    """False: the answer is not stored, so no later request can continue it."""
    metadata: dict[str, str] | None = None
    """Returned with the answer."""


def parse_responses_request(body: Any) -> ResponsesRequest:
    """Parse and check a request's body.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    request = read_parameters(body, ResponsesRequest, without_effect=_IGNORED, neutral=_NEUTRAL)
    if "message.output_text.logprobs" in (request.include or []):
        raise unsupported("include", request.include, "use the chat-completions API for logprobs")
    return request


def to_chat_request(
    request: ResponsesRequest, history: list[dict[str, Any]], new: list[dict[str, Any]]
) -> ChatRequest:
    """Translate a request.

    Args:
        request: the request.
        history: the messages of the stored turns that it continues.
        new: the messages that it adds.
    """
    instructions = [{"role": "system", "content": request.instructions}]
    tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(request.tools or [])]
    return parse_chat_request(
        {
            "messages": [*(instructions if request.instructions else []), *history, *new],
            "tools": tools or None,
            "tool_choice": _tool_choice(request.tool_choice),
            "parallel_tool_calls": request.parallel_tool_calls,
            "max_completion_tokens": request.max_output_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "response_format": _response_format(request.text),
            "stream": request.stream,
        }
    )


def new_messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    """The messages that a request adds to its history: its `input` as chat messages."""
    if isinstance(request.input, str):
        return [{"role": "user", "content": request.input}]
    return _chat_messages(request.input)


def _response_format(text: TextConfig | None) -> dict[str, Any] | None:
    if text is None or text.format is None or text.format.get("type") != "json_schema":
        return text.format if text else None
    return {"type": "json_schema", "json_schema": text.format}


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise unsupported(f"{where}.type", tool.get("type"), "only functions are")
    kept = ("name", "description", "parameters")
    # In the client's order of keys: the chat format writes the tool into the prompt as it is.
    function = {key: tool[key] for key in tool if key in kept and tool[key] is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: str | dict[str, Any] | None) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        raise unsupported("tool_choice", choice, "name a function")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _chat_messages(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as chat messages."""
    messages: list[dict[str, Any]] = []
    for position, item in enumerate(items):
        message = _message(item, f"input[{position}]")
        if messages and _continues(messages[-1], message):
            messages[-1] = _joined(messages[-1], message)
        else:
            messages.append(message)
    return messages


def _message(item: dict[str, Any], where: str) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        call_id = item.get("call_id")
        if not isinstance(call_id, str):
            raise invalid(f"{where}.call_id", call_id, "the id of a function call")
        return {"role": "tool", "tool_call_id": call_id, "content": item.get("output")}
    if kind == "reasoning":
        parts = item.get("content") or item.get("summary")
        return {"role": "assistant", "content": None, "reasoning_content": parts}
    raise unsupported(f"{where}.type", kind, "leave such items out")


def _continues(last: dict[str, Any], message: dict[str, Any]) -> bool:
    """Whether both belong to one turn, whose order is reasoning, then text, then calls."""
    if last["role"] != "assistant" or message["role"] != "assistant":
        return False
    if "reasoning_content" in message:
        return False
    return "tool_calls" in message or (last["content"] is None and "tool_calls" not in last)


def _joined(last: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    joined = {**last, **message}
    if "tool_calls" in message:
        joined["content"] = last["content"]
        joined["tool_calls"] = [*last.get("tool_calls", []), *message["tool_calls"]]
    return joined
