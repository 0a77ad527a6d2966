"""`POST /v1/chat/completions`: the answer as one object, or as a stream of chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ajet.errors import AjetError, EngineError, RequestError
from ajet.gateway.apis.base import WireApi
from ajet.gateway.completion import Choice, Completion, Delta, PendingRequest, event
from ajet.gateway.gateway import MODEL_NAME, StoredTurns
from ajet.gateway.request import WITHOUT_EFFECT, ChatRequest, parse_chat_request


class ChatCompletionsApi(WireApi):
    """One request of OpenAI's chat-completions API."""

    parameters = ChatRequest
    without_effect = WITHOUT_EFFECT

    def __init__(self, body: Any, stored_turns: StoredTurns) -> None:
        self.chat_request = parse_chat_request(body)

    def answer(self, pending: PendingRequest, completion: Completion) -> dict[str, Any]:
        """The response object."""
        return completion_body(completion)

    def encoder(self, pending: PendingRequest) -> ChunkEncoder:
        """The stream of chunks."""
        return ChunkEncoder(pending)

    @staticmethod
    def error(error: AjetError) -> tuple[int, dict[str, Any]]:
        """HTTP status and the OpenAI API's error object."""
        if isinstance(error, RequestError):
            status, param, code = error.status, error.param, error.code
            kind = "invalid_request_error" if status < 500 else "server_error"
        else:
            is_engine = isinstance(error, EngineError)
            status, param, kind = 503 if is_engine else 500, None, "server_error"
            code = "engine_error" if is_engine else None
        content = {"message": str(error), "type": kind, "param": param, "code": code}
        return status, {"error": content}


class ChunkEncoder:
    """Encodes one streamed answer as chat completion chunks."""

    def __init__(self, pending: PendingRequest) -> None:
        options = pending.request.stream_options
        self._with_usage = options is not None and options.include_usage
        self._num_choices = len(pending.completions)
        self._shared = {
            "id": f"chatcmpl-{pending.name}",
            "object": "chat.completion.chunk",
            "created": pending.created,
            "model": MODEL_NAME,
        }

    def begin(self) -> Iterator[bytes]:
        """The first chunk of each choice, which says who speaks."""
        for index in range(self._num_choices):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def add(self, item: Delta | Completion) -> Iterator[bytes]:
        """The chunk of a delta, or the last chunks of all choices."""
        if isinstance(item, Delta):
            texts = {"reasoning_content": item.reasoning, "content": item.content}
            new = {name: text for name, text in texts.items() if text}
            yield self._chunk(item.index, new, logprobs=_logprobs(item.logprobs))
        else:
            yield from self._end(item)

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """The error object as an event."""
        # No `[DONE]` after it: clients would take the stream for complete.
        yield event(ChatCompletionsApi.error(error)[1])

    def _end(self, completion: Completion) -> Iterator[bytes]:
        for index, choice in enumerate(completion.choices):
            for position, call in enumerate(choice.tool_calls):
                yield self._chunk(index, {"tool_calls": [{"index": position, **call}]})
            yield self._chunk(index, {}, finish_reason=choice.finish_reason)
        if self._with_usage:
            yield event({**self._shared, "choices": [], "usage": _usage(completion)})
        yield b"data: [DONE]\n\n"

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "finish_reason": finish_reason,
            "logprobs": logprobs,
        }
        usage = {"usage": None} if self._with_usage else {}
        return event({**self._shared, "choices": [choice], **usage})


def completion_body(completion: Completion) -> dict[str, Any]:
    """The response object of the chat-completions API."""
    return {
        "id": f"chatcmpl-{completion.name}",
        "object": "chat.completion",
        "created": completion.created,
        "model": MODEL_NAME,
        "choices": [
            {
                "index": index,
                "message": _message(choice),
                "finish_reason": choice.finish_reason,
                "logprobs": _logprobs(choice.logprobs),
            }
            for index, choice in enumerate(completion.choices)
        ],
        "usage": _usage(completion),
    }


def _message(choice: Choice) -> dict[str, Any]:
    """The message without the prefill, which the client has."""
    return {**choice.message, "content": choice.content} if choice.prefill else choice.message


def _logprobs(tokens: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    return None if tokens is None else {"content": tokens}


def _usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }
