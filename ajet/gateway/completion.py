"""A completion in the gateway's own terms, from which each wire API makes its own shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat, ParsedMessage
from ajet.context_tracker.tracker import Prompt
from ajet.gateway.apis.chat_completions.request import PendingCompletion
from ajet.schema.call import Generation, SamplingParams


@dataclass(slots=True, kw_only=True)
class Choice:
    """One choice of a completion, as the agent gets it."""

    message: dict[str, Any]
    """The assistant's whole turn, in the shape of the chat-completions API."""
    prefill: str
    """The beginning of the message's content that the request gave; APIs do not return it again."""
    finish_reason: str
    """`stop`, `length` or `tool_calls`."""
    stop: str | None
    """The stop string that ended the choice, if one did."""
    num_tokens: int
    logprobs: list[dict[str, Any]] | None
    """One entry per token, in the shape of the chat-completions API; None if not asked for."""
    malformed_tool_calls: int = 0
    """Number of tool calls that could not be parsed; their text is in the content."""

    @property
    def content(self) -> str:
        """The text that was added to the prefill."""
        return (self.message["content"] or "")[len(self.prefill) :]

    @property
    def reasoning(self) -> str:
        """The reasoning; empty if there is none."""
        return self.message.get("reasoning_content") or ""

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool calls, in the shape of the chat-completions API."""
        return self.message.get("tool_calls") or []


@dataclass(slots=True, kw_only=True)
class Completion:
    """The answer to a request, with all of its choices."""

    name: str
    """Unique in the run."""
    created: int
    """Unix time."""
    prompt_tokens: int
    choices: list[Choice]

    @property
    def completion_tokens(self) -> int:
        """Number of sampled tokens over all choices."""
        return sum(choice.num_tokens for choice in self.choices)


@dataclass(slots=True, kw_only=True)
class Delta:
    """New text of one choice while it is sampled."""

    index: int
    reasoning: str = ""
    content: str = ""
    logprobs: list[dict[str, Any]] | None = None
    """Entries of the tokens sampled since the last delta."""


def make_choice(
    chat_format: ChatFormat, pending: PendingCompletion, generation: Generation
) -> Choice:
    """Parse a generation into an assistant message."""
    parsed = parse_turn(chat_format, pending.prompt, generation.token_ids)
    stop = pending.params.stop
    content = before_stop(parsed.content, stop, pending.prefill).strip()
    reasoning = before_stop(parsed.reasoning or "", stop).strip()
    calls = _tool_calls(parsed, pending.name)[: pending.max_calls]
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
        message["content"] = content or None
    return Choice(
        message=message,
        prefill=pending.prefill,
        finish_reason="tool_calls"
        if calls and generation.finish_reason == "stop"
        else generation.finish_reason,
        stop=_stop_string(chat_format, generation, pending.params),
        num_tokens=len(generation.token_ids),
        malformed_tool_calls=parsed.malformed_tool_calls,
        logprobs=token_logprobs(chat_format, generation.token_ids, generation.logprobs)
        if pending.with_logprobs
        else None,
    )


def parse_turn(chat_format: ChatFormat, prompt: Prompt, completion_ids: list[int]) -> ParsedMessage:
    """Parse the assistant's whole turn: the prefill and what was sampled after it."""
    if not prompt.num_prefilled:
        return chat_format.parse(completion_ids, prompt.ids, prompt.tools)
    start = len(prompt.ids) - prompt.num_prefilled
    turn = prompt.ids[start:] + completion_ids
    return chat_format.parse(turn, prompt.ids[:start], prompt.tools)


def before_stop(text: str, stop: tuple[str, ...], prefill: str = "") -> str:
    """The text up to the first stop string after `prefill`; the APIs never return a stop string."""
    ends = [end for string in stop if (end := text.find(string, len(prefill))) >= 0]
    return text[: min(ends)] if ends else text


def token_logprobs(
    chat_format: ChatFormat, token_ids: list[int], logprobs: list[float]
) -> list[dict[str, Any]]:
    """Text, bytes and logprob of each token.

    The text of a token that is part of a character is a replacement character; its bytes are exact,
    so that a client can put the character together.
    """
    tokenizer, entries = chat_format.tokenizer, []
    for token, logprob in zip(token_ids, logprobs, strict=True):
        in_bytes = tokenizer.token_bytes(token)
        entries.append(
            {
                "token": tokenizer.decode(token),
                "logprob": logprob,
                "bytes": None if in_bytes is None else list(in_bytes),
                "top_logprobs": [],
            }
        )
    return entries


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
    # An escape in the model's JSON may spell half a character, which no reply can be encoded with.
    return text.encode(errors="replace").decode()
