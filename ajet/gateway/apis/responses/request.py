"""From the Responses API's request to the gateway's own."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ajet.gateway.apis.chat_completions.request import ChatRequest, parse_chat_request
from ajet.gateway.apis.responses.input_items import messages_of
from ajet.gateway.parameters import read_parameters, unsupported

_WITHOUT_EFFECT = {"model", "user", "service_tier", "safety_identifier", "stream_options"}
_WITHOUT_EFFECT |= {"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False, None),
    "context_management": (None, []),
    "conversation": (None,),
    "include": (None, []),
    "max_tool_calls": (None,),
    "prompt": (None,),
    "reasoning": (None, {}, {"effort": None}, {"effort": None, "summary": None}),
    "text": (None, {}, {"format": {"type": "text"}}),
    "top_logprobs": (None, 0),
    "truncation": (None, "disabled"),
}


class ResponsesRequest(BaseModel):
    """The parameters that are honoured."""

    model_config = ConfigDict(extra="forbid")

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    stream: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    """False: no later request will continue this one."""
    metadata: dict[str, str] | None = None
    """Given back with the answer."""


def parse_responses_request(body: Any) -> ResponsesRequest:
    """Check a request's body.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    return read_parameters(body, ResponsesRequest, without_effect=_WITHOUT_EFFECT, neutral=_NEUTRAL)


def to_chat_request(
    request: ResponsesRequest, history: list[dict[str, Any]], new: list[dict[str, Any]]
) -> ChatRequest:
    """The gateway's own request.

    Args:
        request: what was asked.
        history: messages of the stored turns that it continues.
        new: its own messages.
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
            "stream": request.stream,
        }
    )


def own_messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    """The messages of `input`."""
    if isinstance(request.input, str):
        return [{"role": "user", "content": request.input}]
    return messages_of(request.input)


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise unsupported(f"{where}.type", tool.get("type"), "only functions are")
    kept = ("name", "description", "parameters")
    # In the client's order: it stands in the prompt.
    function = {key: tool[key] for key in tool if key in kept and tool[key] is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: str | dict[str, Any] | None) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        raise unsupported("tool_choice", choice, "name a function")
    return {"type": "function", "function": {"name": choice.get("name")}}
