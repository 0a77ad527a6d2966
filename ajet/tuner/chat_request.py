"""The body of `POST /v1/chat/completions`: what is honoured, and what is refused by name."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ajet.errors import RequestError
from ajet.schema.generation import SamplingParams

_HARMLESS = {"model", "user", "metadata", "store", "service_tier", "stream_options"}
_HARMLESS |= {"safety_identifier", "prompt_cache_key", "parallel_tool_calls", "timeout"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "stream": (False, None),
    "response_format": (None, {"type": "text"}),
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "logit_bias": (None, {}),
    "top_logprobs": (None, 0),
    "reasoning_effort": (None,),
}


class SamplingDefaults(BaseModel):
    """What a request that leaves something out gets: from the `rollout` section."""

    max_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


class ChatRequest(BaseModel):
    """The parameters that are honoured."""

    model_config = ConfigDict(extra="forbid")

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    n: int = Field(1, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None

    @property
    def visible_tools(self) -> list[dict[str, Any]] | None:
        """The tools that the model is told of; None rather than an empty list."""
        return None if self.tool_choice == "none" else self.tools or None

    def sampling(
        self, defaults: SamplingDefaults, stop_token_ids: tuple[int, ...], seed: int
    ) -> SamplingParams:
        """Sampling parameters, with `defaults` and `seed` where the request is silent."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []

        def either(mine: Any, default: Any) -> Any:
            return default if mine is None else mine

        return SamplingParams(
            max_tokens=either(
                self.max_completion_tokens, either(self.max_tokens, defaults.max_tokens)
            ),
            temperature=either(self.temperature, defaults.temperature),
            top_p=either(self.top_p, defaults.top_p),
            top_k=max(0, either(self.top_k, defaults.top_k)),
            seed=either(self.seed, seed),
            stop_token_ids=stop_token_ids,
            stop=tuple(text for text in stop if text),
        )


def parse_chat_request(body: Any) -> ChatRequest:
    """Check a request's body.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    if not isinstance(body, dict):
        raise RequestError(f"body: got {type(body).__name__}; expected a JSON object")
    kept = {name: value for name, value in body.items() if name not in _HARMLESS}
    for name, neutral in _NEUTRAL.items():
        if name in kept and kept.pop(name) not in neutral:
            raise RequestError(
                f"{name}: {body[name]!r} is not supported by this engine; leave it out",
                param=name,
                code="unsupported_parameter",
            )
    try:
        return ChatRequest.model_validate(kept)
    except ValidationError as error:
        problem = error.errors()[0]
        param = ".".join(str(part) for part in problem["loc"])
        unknown = problem["type"] == "extra_forbidden"
        raise RequestError(
            f"{param}: not a parameter that is honoured here; leave it out"
            if unknown
            else f"{param}: got {problem['input']!r}; {problem['msg']}",
            param=param,
            code="unknown_parameter" if unknown else "invalid_value",
        ) from error
