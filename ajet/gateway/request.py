"""The gateway's own request, and the checks of parameters that all wire APIs share.

`ChatRequest` is the body of `POST /v1/chat/completions`; the requests of the other APIs are
translated to it. Each parameter is honoured or refused. Not honoured exactly:

- `tool_choice` that demands a call: the call's beginning is a prefill, and the model decides how to
  continue it. It is refused if no turn of the chat format can begin with a call.
- `parallel_tool_calls: false`: sampling stops at the end of the first call.
- `strict` of a tool: ignored, because the engine samples without constraints.
- `response_format`: the schema is part of the prompt, and with `constrain` also enforced.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, model_validator
from pydantic_core import ErrorDetails

from ajet.errors import RequestError
from ajet.schema.episode import SamplingParams

logger = logging.getLogger(__name__)

_LONGEST_SHOWN = 200
"""Characters of a wrong value that an error message shows at most."""

Model = TypeVar("Model", bound=BaseModel)


class Parameters(BaseModel):
    """Parameters within a parameter: unknown ones are refused, null is the same as absent."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: Any) -> Any:
        return without_nulls(given)


def without_nulls(value: Any) -> Any:
    """A JSON value without object entries that are null, which clients send for absent ones."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


PROVIDER = "they concern another provider's accounts, caches or speed"
THINKING = "the chat format decides how the model thinks (ajet.model.enable_thinking)"
LENGTH = "ask for short or long answers in the prompt"
HISTORY = "the prompt stays what the agent sends"


class Notices:
    """Says once that requests set a parameter that is accepted and has no effect."""

    def __init__(self) -> None:
        self.report: Callable[[dict[str, str]], None] = _log
        """Gets the parameters that were not named before, each with the reason."""
        self._lock = threading.Lock()
        self._named: set[str] = set()

    def of_request(self, body: Any, without_effect: Mapping[str, str]) -> None:
        """Report the parameters of a request's JSON that stand in `without_effect`."""
        self.add({path: why for path, why in without_effect.items() if _is_set(body, path)})

    def add(self, found: Mapping[str, str]) -> None:
        """Report those parameters that were not reported before; safe to call from any thread."""
        with self._lock:
            new = {path: why for path, why in found.items() if path not in self._named}
            self._named.update(new)
        if new:
            self.report(new)


def _log(found: dict[str, str]) -> None:
    by_reason = defaultdict(list)
    for path, why in found.items():
        by_reason[why].append(path)
    for why, paths in by_reason.items():
        logger.warning("requests set %s, accepted without effect: %s", ", ".join(paths), why)


def _is_set(body: Any, path: str) -> bool:
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body is not None


def read_parameters(
    body: Any,
    model: type[Model],
    *,
    without_effect: Collection[str],
    neutral: Mapping[str, tuple[Any, ...]],
    instead: Mapping[str, str] = MappingProxyType({}),
) -> Model:
    """Check a request's body and return its parameters; null is the same as absent.

    Args:
        body: the parsed JSON.
        model: its fields are the parameters that are honoured.
        without_effect: parameters that are accepted and do not change the answer.
        neutral: parameters that cannot be honoured, with the values that ask for nothing special
            and are accepted.
        instead: what to do about some of these; for the others: leave them out.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    if not isinstance(body, dict):
        raise RequestError(f"body: got {type(body).__name__}; expected a JSON object")
    kept = {
        name: value
        for name, value in body.items()
        if value is not None and name not in without_effect
    }
    for name in neutral.keys() & kept.keys():
        if without_nulls(kept.pop(name)) not in neutral[name]:
            raise unsupported(name, body[name], instead.get(name, "leave it out"))
    try:
        return model.model_validate(kept)
    except ValidationError as error:
        raise _request_error(body, error.errors(include_url=False)[0]) from error


def unsupported(param: str, value: Any, why: str = "leave it out") -> RequestError:
    """The error for a value that cannot be honoured."""
    return RequestError(
        f"{param}: {_shown(value)} is not supported by this engine; {why}",
        param=param,
        code="unsupported_parameter",
    )


def invalid(param: str, value: Any, expected: str) -> RequestError:
    """The error for a value that is wrong."""
    return RequestError(
        f"{param}: got {_shown(value)}; expected {expected}", param=param, code="invalid_value"
    )


def _request_error(body: dict[str, Any], problem: ErrorDetails) -> RequestError:
    param = _place(body, problem["loc"])
    if problem["type"] == "extra_forbidden":
        return RequestError(
            f"{param}: this parameter is not supported; leave it out",
            param=param,
            code="unknown_parameter",
        )
    if problem["type"] == "missing":  # its input is all that stands around it
        return RequestError(f"{param}: missing", param=param, code="missing_parameter")
    return RequestError(
        f"{param}: got {_shown(problem['input'])}; {problem['msg']}",
        param=param,
        code="invalid_value",
    )


def _place(body: Any, loc: tuple[int | str, ...]) -> str:
    """The path to a value, without the type names that pydantic adds for unions."""
    path = [loc[0]]
    for part in loc[1:]:
        try:
            body = body[path[-1]]
            body[part]
        except (LookupError, TypeError):
            break
        path.append(part)
    return ".".join(map(str, path))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


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
    def demanded_format(self) -> dict[str, Any] | None:
        """The shape of JSON that the answer must have; None if it may be any text."""
        given = self.response_format
        return None if given is None or given["type"] == "text" else given

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


def check_response_format(response_format: dict[str, Any]) -> None:
    """Raise `RequestError` for a format that no schema can be read from."""
    kind = response_format.get("type")
    if kind in ("text", "json_object"):
        return
    if kind != "json_schema":
        raise unsupported("response_format", response_format, "use json_schema or json_object")
    given = response_format.get("json_schema")
    schema = given.get("schema") if isinstance(given, dict) else 0
    if not (schema is None or isinstance(schema, dict)):
        expected = '{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}'
        raise invalid("response_format", response_format, expected)
