"""Completions in the gateway's own terms: pending, finished, and the reply that carries them.

Each wire API makes its own shape from a `Completion`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any

from ajet.context_tracker.call_markup import call_opening
from ajet.context_tracker.chat_format import ChatFormat, ParsedMessage
from ajet.context_tracker.history import normalize_messages
from ajet.context_tracker.tracker import Prompt
from ajet.errors import RequestError
from ajet.gateway.request import ChatRequest, invalid, unsupported
from ajet.schema.episode import Generation, SamplingParams


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


@dataclass(slots=True, kw_only=True)
class Reply:
    """An HTTP response with a body, or with a stream of server-sent events."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b""
    events: AsyncGenerator[bytes, None] | None = None
    """Each item is one event with its blank line. Closing the iterator cancels the request."""


def json_reply(content: Any, *, status: int = 200) -> Reply:
    """A reply whose body is JSON."""
    return Reply(status=status, body=json.dumps(content, ensure_ascii=False).encode())


def event_reply(events: AsyncGenerator[bytes, None]) -> Reply:
    """A reply that is a stream of server-sent events."""
    headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    return Reply(headers=headers, events=events)


def event(content: Any, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = "" if name is None else f"event: {name}\n"
    # In ASCII: some clients take U+2028 for the end of a line.
    return f"{head}data: {json.dumps(content)}\n\n".encode()


def parse_json(body: bytes) -> Any:
    """Parse a request's body.

    Raises:
        RequestError: it is not JSON.
    """
    try:
        content = json.loads(body)
        if b"\\u" in body:  # an escape may spell half a character, which no tokenizer takes
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RequestError(f"body: not valid JSON: {error}") from error
    return content
