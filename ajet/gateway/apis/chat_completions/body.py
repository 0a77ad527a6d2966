"""`POST /v1/chat/completions`: one object, or a stream of chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from ajet.errors import AjetError, EngineError, RequestError
from ajet.gateway.apis.chat_completions.request import parse_chat_request
from ajet.gateway.completion import Choice, Completion, Delta
from ajet.gateway.gateway import MODEL_NAME, AgentSession
from ajet.gateway.pending import PendingRequest
from ajet.gateway.reply import Reply, event, event_reply, json_reply


async def chat_completions(port: AgentSession, body: Any) -> Reply:
    """Answer one request.

    Raises:
        AjetError: nothing is recorded.
    """
    request = parse_chat_request(body)
    asked = port.ask(request)
    if request.stream:
        return event_reply(_chunks(port, asked))
    return json_reply(completion_body(await port.answer(asked)))


def completion_body(answer: Completion) -> dict[str, Any]:
    """The response object."""
    return {
        "id": f"chatcmpl-{answer.name}",
        "object": "chat.completion",
        "created": answer.created,
        "model": MODEL_NAME,
        "choices": [
            {
                "index": index,
                "message": _told(choice),
                "finish_reason": choice.finish_reason,
                "logprobs": _logprobs(choice.logprobs),
            }
            for index, choice in enumerate(answer.choices)
        ],
        "usage": _usage(answer),
    }


def error_body(error: AjetError) -> tuple[int, dict[str, Any]]:
    """HTTP status and the OpenAI API's error object."""
    if isinstance(error, RequestError):
        status, param, code = error.status, error.param, error.code
        kind = "invalid_request_error" if status < 500 else "server_error"
    else:
        status, param, kind = 503 if isinstance(error, EngineError) else 500, None, "server_error"
        code = "engine_error" if isinstance(error, EngineError) else None
    content = {"message": str(error), "type": kind, "param": param, "code": code}
    return status, {"error": content}


async def _chunks(port: AgentSession, asked: PendingRequest) -> AsyncGenerator[bytes, None]:
    chunk = _ChunkMaker(asked)
    try:
        for index in range(len(asked.wanted)):
            yield chunk.of(index, {"role": "assistant", "content": ""})
        async with aclosing(port.stream(asked)) as items:
            async for item in items:
                if isinstance(item, Delta):
                    yield chunk.of_delta(item)
                else:
                    for last in chunk.of_end(item):
                        yield last
        yield b"data: [DONE]\n\n"
    except AjetError as error:
        yield event(error_body(error)[1])


class _ChunkMaker:
    """What the chunks of one stream have in common."""

    def __init__(self, asked: PendingRequest) -> None:
        options = asked.request.stream_options
        self._with_usage = options is not None and options.include_usage
        self._head = {
            "id": f"chatcmpl-{asked.name}",
            "object": "chat.completion.chunk",
            "created": asked.created,
            "model": MODEL_NAME,
        }

    def of_delta(self, delta: Delta) -> bytes:
        texts = {"reasoning_content": delta.reasoning, "content": delta.content}
        told = {name: text for name, text in texts.items() if text}
        return self.of(delta.index, told, logprobs=_logprobs(delta.logprobs))

    def of_end(self, answer: Completion) -> Iterator[bytes]:
        for index, choice in enumerate(answer.choices):
            for position, call in enumerate(choice.tool_calls):
                yield self.of(index, {"tool_calls": [{"index": position, **call}]})
            yield self.of(index, {}, finish_reason=choice.finish_reason)
        if self._with_usage:
            yield event({**self._head, "choices": [], "usage": _usage(answer)})

    def of(
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
        return event({**self._head, "choices": [choice], **usage})


def _told(choice: Choice) -> dict[str, Any]:
    """The message less what the request gave of it."""
    return {**choice.message, "content": choice.content} if choice.prefill else choice.message


def _logprobs(tokens: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    return None if tokens is None else {"content": tokens}


def _usage(answer: Completion) -> dict[str, int]:
    """The tokens that were really read and sampled."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
