"""An answer as the gateway has it: what every API's shape is made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat, ParsedMessage
from ajet.context_tracker.tracker import Prompt
from ajet.gateway.pending import PendingCompletion
from ajet.schema.generation import Generation, SamplingParams


@dataclass(slots=True, kw_only=True)
class Choice:
    """One completion as the agent is told of it."""

    message: dict[str, Any]
    """The assistant's whole turn, in the shape of the chat-completions API."""
    prefill: str
    """The head of the message's content that the request gave, and that is not told again."""
    finish_reason: str
    """`stop`, `length` or `tool_calls`."""
    stop: str | None
    """The stop string that ended it."""
    num_tokens: int
    logprobs: list[dict[str, Any]] | None
    """One a token, in the API's shape; None where they were not asked for."""

    @property
    def content(self) -> str:
        """The text that the completion adds."""
        return (self.message["content"] or "")[len(self.prefill) :]

    @property
    def reasoning(self) -> str:
        """The reasoning; empty where there was none."""
        return self.message.get("reasoning_content") or ""

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """In the shape of the chat-completions API."""
        return self.message.get("tool_calls") or []


@dataclass(slots=True, kw_only=True)
class Completion:
    """All completions of a request."""

    name: str
    """Unique in the run."""
    created: int
    """Unix time."""
    prompt_tokens: int
    choices: list[Choice]

    @property
    def completion_tokens(self) -> int:
        """Tokens that were really sampled, of all choices."""
        return sum(choice.num_tokens for choice in self.choices)


@dataclass(slots=True, kw_only=True)
class Delta:
    """What became known of a choice while it is sampled."""

    index: int
    reasoning: str = ""
    content: str = ""
    logprobs: list[dict[str, Any]] | None = None
    """Of the tokens sampled since the last delta."""


def make_choice(
    chat_format: ChatFormat, wanted: PendingCompletion, generation: Generation
) -> Choice:
    """Parse a completion into an assistant message."""
    parsed = parse_turn(chat_format, wanted.prompt, generation.token_ids)
    stop = wanted.params.stop
    content = before_stop(parsed.content, stop, wanted.prefill).strip()
    reasoning = before_stop(parsed.reasoning or "", stop).strip()
    calls = _tool_calls(parsed, wanted.name)[: wanted.max_calls]
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
        message["content"] = content or None
    return Choice(
        message=message,
        prefill=wanted.prefill,
        finish_reason="tool_calls"
        if calls and generation.finish_reason == "stop"
        else generation.finish_reason,
        stop=_stop_string(chat_format, generation, wanted.params),
        num_tokens=len(generation.token_ids),
        logprobs=token_logprobs(chat_format, generation.token_ids, generation.logprobs)
        if wanted.with_logprobs
        else None,
    )


def parse_turn(chat_format: ChatFormat, prompt: Prompt, completion_ids: list[int]) -> ParsedMessage:
    """The whole turn: what the request began of it, then what was sampled."""
    if not prompt.num_prefilled:
        return chat_format.parse(completion_ids, prompt.ids, prompt.tools)
    start = len(prompt.ids) - prompt.num_prefilled
    turn = prompt.ids[start:] + completion_ids
    return chat_format.parse(turn, prompt.ids[:start], prompt.tools)


def before_stop(text: str, stop: tuple[str, ...], prefill: str = "") -> str:
    """The text before the first stop string that comes after `prefill`, as the APIs promise."""
    ends = [end for string in stop if (end := text.find(string, len(prefill))) >= 0]
    return text[: min(ends)] if ends else text


def token_logprobs(
    chat_format: ChatFormat, token_ids: list[int], logprobs: list[float]
) -> list[dict[str, Any]]:
    """Text and logprob of each token; a token that is part of a character has no bytes."""
    texts = [chat_format.tokenizer.decode(token) for token in token_ids]
    return [
        {
            "token": text,
            "logprob": logprob,
            "bytes": None if "\ufffd" in text else list(text.encode()),
            "top_logprobs": [],
        }
        for text, logprob in zip(texts, logprobs, strict=True)
    ]


def _stop_string(
    chat_format: ChatFormat, generation: Generation, params: SamplingParams
) -> str | None:
    by_token = generation.token_ids[-1] in params.stop_token_ids
    if not params.stop or by_token or generation.finish_reason != "stop":
        return None
    text = chat_format.tokenizer.decode(generation.token_ids)
    return min((s for s in params.stop if s in text), key=text.find, default=None)


def _tool_calls(parsed: ParsedMessage, name: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{name}_{position}",
            "type": "function",
            "function": {"name": _text(tool), "arguments": _text(arguments)},
        }
        for position, (tool, arguments) in enumerate(parsed.tool_calls)
    ]


def _text(value: dict[str, Any] | str) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace").decode()  # an escape in JSON may spell half a character
