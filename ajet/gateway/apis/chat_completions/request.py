"""The body of `POST /v1/chat/completions`, which is also the gateway's own request, and its prompt.

The requests of the other APIs are translated to it. Not honoured exactly:

- `tool_choice` that demands a call: the call's beginning is a prefill, and the model decides how to
  continue it. It is refused if no turn of the chat format can begin with a call.
- `parallel_tool_calls: false`: sampling stops at the end of the first call.
- `strict` of a tool: ignored, because the engine samples without constraints.
- `response_format`: the schema is part of the prompt (see `gateway/parameters.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from ajet.context_tracker.call_markup import call_opening
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.history import normalize_messages
from ajet.context_tracker.tracker import Prompt
from ajet.errors import RequestError
from ajet.gateway.parameters import (
    LENGTH,
    PROVIDER,
    THINKING,
    Parameters,
    check_response_format,
    invalid,
    read_parameters,
    unsupported,
)
from ajet.schema.call import SamplingParams

WITHOUT_EFFECT = {
    **dict.fromkeys(("user", "metadata", "store", "service_tier", "timeout"), PROVIDER),
    **dict.fromkeys(("safety_identifier", "prompt_cache_key", "prompt_cache_options"), PROVIDER),
    **dict.fromkeys(("prompt_cache_retention", "prediction"), PROVIDER),
    "reasoning_effort": THINKING,
    "verbosity": LENGTH,
}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "audio": (),
    "moderation": (),
    "web_search_options": (),
    # What clients for vLLM and SGLang send besides, with the values that mean nothing special.
    "add_generation_prompt": (True,),
    "best_of": (1,),
    "extra_body": ({},),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "ignore_eos": (False,),
    "include_reasoning": (True,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "repetition_penalty": (1,),
    "separate_reasoning": (True,),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "use_beam_search": (False,),
}
_INSTEAD = {
    "extra_body": "merge its entries into the body, as OpenAI's SDK does",
    "function_call": "use tool_choice",
    "functions": "use tools",
    "stop_token_ids": "use stop",
    "web_search_options": "give the agent a search tool of its own",
}


class SamplingDefaults(BaseModel):
    """Values for sampling parameters that a request leaves out, from the `rollout` section."""

    max_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


class StreamOptions(Parameters):
    """Options of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted and ignored: it hides token sizes from observers of a network."""


class TemplateOptions(Parameters):
    """Options of the chat template, as vLLM and SGLang take them."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


class ThinkingOption(Parameters):
    """Whether the model thinks first, as some providers take it."""

    type: Literal["enabled", "disabled"]


class ChatRequest(BaseModel):
    """The parameters of the chat-completions API that are honoured."""

    model_config = ConfigDict(extra="forbid")

    messages: list[InstanceOf[dict[str, Any]]]
    """Not copied (`InstanceOf`): copying a long history would cost as much as parsing it."""
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    n: int | None = Field(None, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63 - 128)
    """64 bits, and one more for each further choice."""
    response_format: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    continue_final_message: bool | None = None
    """The answer continues the last message (an extension, as in vLLM)."""
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateOptions | None = None
    thinking: ThinkingOption | None = None

    @property
    def num_choices(self) -> int:
        """Number of completions to sample."""
        return self.n or 1

    def check_thinking(self, enabled: bool | None) -> None:
        """Raise `RequestError` if the request demands something else of the model's thinking.

        Args:
            enabled: what the chat format does in all requests; None: it has no such choice.
        """
        template, thinking = self.chat_template_kwargs, self.thinking
        demanded = [
            ("enable_thinking", self.enable_thinking),
            ("chat_template_kwargs", template and template.enable_thinking),
            ("chat_template_kwargs", template and template.thinking),
            ("thinking", thinking and thinking.type == "enabled"),
        ]
        for name, value in demanded:
            if value is not None and value != enabled:
                why = f"set ajet.model.enable_thinking: {str(value).lower()} for all requests"
                raise unsupported(name, value, why)

    @property
    def visible_tools(self) -> list[dict[str, Any]] | None:
        """The tools that stand in the prompt; None instead of an empty list."""
        return None if self.tool_choice == "none" else self.tools or None

    @property
    def demanded_tools(self) -> tuple[str, ...]:
        """Names of the tools of which one must be called; empty if none must."""
        if isinstance(self.tool_choice, dict):
            return (self.tool_choice["function"]["name"],)
        if self.tool_choice == "required":
            return tuple(tool["function"]["name"] for tool in self.tools or [])
        return ()

    def sampling(
        self, defaults: SamplingDefaults, stop_token_ids: tuple[int, ...], seed: int
    ) -> SamplingParams:
        """Sampling parameters; `defaults` fill what the request leaves out."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []

        def either(requested: Any, default: Any) -> Any:
            return default if requested is None else requested

        return SamplingParams(
            max_tokens=either(
                self.max_completion_tokens, either(self.max_tokens, defaults.max_tokens)
            ),
            temperature=either(self.temperature, defaults.temperature),
            top_p=either(self.top_p, defaults.top_p),
            top_k=max(0, either(self.top_k, defaults.top_k)),
            seed=seed,
            stop_token_ids=stop_token_ids,
            stop=tuple(text for text in stop if text),
        )


def parse_chat_request(body: Any) -> ChatRequest:
    """Parse and check a request's body.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    request = read_parameters(
        body,
        ChatRequest,
        without_effect={"model", *WITHOUT_EFFECT},
        neutral=_NEUTRAL,
        instead=_INSTEAD,
    )
    for position, tool in enumerate(request.tools or []):
        _check_tool(tool, f"tools[{position}]")
    _check_tool_choice(request)
    if request.response_format is not None:
        check_response_format(request.response_format)
    if request.stream_options is not None and not request.stream:
        raise invalid(
            "stream_options", body["stream_options"], "`stream: true` in the same request"
        )
    return request


def _check_tool(tool: dict[str, Any], where: str) -> None:
    if (tool.get("type") or "function") != "function":
        raise unsupported(f"{where}.type", tool["type"], "only functions are")
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not (isinstance(name, str) and name):
        raise invalid(where, tool, '{"type": "function", "function": {"name": ..., ...}}')
    if not isinstance(function.get("parameters") or {}, dict):  # type: ignore[union-attr]
        raise invalid(f"{where}.function.parameters", function["parameters"], "a JSON schema")  # type: ignore[index]


def _check_tool_choice(request: ChatRequest) -> None:
    choice = request.tool_choice
    names = [tool["function"]["name"] for tool in request.tools or []]
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise unsupported("tool_choice", choice, "name a function")
        function = choice.get("function")
        if not isinstance(function, dict) or function.get("name") not in names:
            raise invalid("tool_choice", choice, f"one of the functions in tools: {names}")
    elif choice == "required" and not names:
        raise invalid("tool_choice", choice, "tools to choose from")


@dataclass(slots=True, kw_only=True)
class PendingCompletion:
    """One of the completions that a request asks for."""

    prompt: Prompt
    params: SamplingParams
    name: str
    """Unique in the episode. The ids of tool calls are derived from it, so that a message that
    returns in a later request is recognised with certainty."""
    prefill: str
    """Text with which the request begins the assistant's turn; empty if it does not."""
    max_calls: int | None
    """Number of tool calls to report at most; None is no limit."""
    with_logprobs: bool


@dataclass(slots=True, kw_only=True)
class PendingRequest:
    """A request and the completions that it asks for."""

    request: ChatRequest
    name: str
    """Unique in the run."""
    completions: list[PendingCompletion]
    """One per choice; never empty."""
    started_s: float
    """Unix time."""

    @property
    def created(self) -> int:
        """Unix time in whole seconds."""
        return int(self.started_s)

    @property
    def prompt_tokens(self) -> int:
        """Number of prompt tokens, counted once for all choices."""
        return len(self.completions[0].prompt.ids)


def split_prefill(request: ChatRequest) -> tuple[list[dict[str, Any]], str]:
    """Split a request's messages into the history and the text that the assistant must continue.

    Raises:
        RequestError: the request asks to continue its last message, and that is not possible.
    """
    if not request.continue_final_message:
        return request.messages, ""
    last = normalize_messages(request.messages[-1:])[0] if request.messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls") or not last["content"]:
        raise invalid("continue_final_message", True, "an assistant's text as the last message")
    text: str = last["content"]
    if text != text.strip():
        # The text of a whole turn is stripped, so this prefill could not be told from the rest.
        raise RequestError(
            "messages: the text to continue begins or ends with white space; remove it",
            param="messages",
            code="invalid_value",
        )
    return request.messages[:-1], text


def with_prefill(
    chat_format: ChatFormat, prompt: Prompt, request: ChatRequest, prefill: str
) -> Prompt:
    """The prompt with the beginning of the assistant's turn that the request gives, if any.

    Raises:
        RequestError: no turn of the chat format can begin like that.
    """
    names = request.demanded_tools if chat_format.parses_tool_calls else ()
    if not names and not prefill:
        return prompt
    if names and prefill:
        raise unsupported("tool_choice", request.tool_choice, "the answer begins with text")
    if names:
        ids = list(call_opening(chat_format, names) or ())
        parsed = chat_format.parse(ids, prompt.ids, prompt.tools)
        # Parsed as reasoning: the turn begins with thinking, and the call would be part of it.
        if not ids or parsed.reasoning:
            why = "in the model's chat format no turn begins with a call"
            raise unsupported("tool_choice", request.tool_choice, why)
    else:
        ids = chat_format.tokenizer.encode(prefill)
        parsed = chat_format.parse(ids, prompt.ids, prompt.tools)
        if parsed.content != prefill or parsed.reasoning:
            why = "in the model's chat format no turn begins with this text"
            raise unsupported("messages", prefill, why)
    return replace(prompt, ids=prompt.ids + ids, num_prefilled=len(ids))
