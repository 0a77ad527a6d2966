"""From the Messages API's request to the gateway's own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ajet.gateway.apis.chat_completions.request import ChatRequest, parse_chat_request
from ajet.gateway.apis.messages.content import messages_of
from ajet.gateway.parameters import invalid, read_parameters, unsupported

_WITHOUT_EFFECT = {"model", "metadata", "service_tier", "cache_control", "user_profile_id"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "container": (None,),
    "context_management": (None,),
    "diagnostics": (None,),
    "inference_geo": (None,),
    "mcp_servers": (None, []),
    "output_config": (None, {}),
    "speed": (None, "standard"),
    "thinking": (None, {"type": "adaptive"}),
}


class ToolChoice(BaseModel):
    """Which tool may or must be used."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class MessagesRequest(BaseModel):
    """The parameters that are honoured."""

    model_config = ConfigDict(extra="forbid")

    messages: list[dict[str, Any]]
    max_tokens: int = Field(ge=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    stream: bool | None = None


def to_chat_request(body: Any) -> ChatRequest:
    """The gateway's own request.

    A last message of the assistant's is the beginning of the answer. A tool result's `is_error`
    has no place in a chat format: its text has to say it.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    request = read_parameters(
        body, MessagesRequest, without_effect=_WITHOUT_EFFECT, neutral=_NEUTRAL
    )
    messages = messages_of(request.messages)
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(request.tools or [])]
    choice = request.tool_choice
    return parse_chat_request(
        {
            "messages": messages,
            "continue_final_message": messages[-1:] != [] and messages[-1]["role"] == "assistant",
            "tools": tools or None,
            "tool_choice": None if choice is None else _tool_choice(choice),
            "parallel_tool_calls": not (choice and choice.disable_parallel_tool_use),
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "stop": request.stop_sequences,
            "stream": request.stream,
        }
    )


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise unsupported(f"{where}.type", tool["type"], "only tools of the client's are")
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
