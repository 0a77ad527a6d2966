"""`POST /v1/messages`: the answer as one message, or as a stream of its events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel

from ajet.errors import AjetError
from ajet.gateway.apis.base import WireApi
from ajet.gateway.apis.block_stream import BlockKind, BlockSequencer
from ajet.gateway.apis.messages.body import (
    empty_message,
    error_body,
    message_body,
    stop_fields,
    text_block,
    thinking_block,
    tool_use_block,
)
from ajet.gateway.apis.messages.request import (
    WITHOUT_EFFECT,
    CountTokensRequest,
    MessagesRequest,
    to_chat_request,
    to_counted_request,
)
from ajet.gateway.completion import Completion, PendingRequest, event
from ajet.gateway.gateway import StoredTurns


class MessagesApi(WireApi):
    """One request of Anthropic's Messages API."""

    parameters: ClassVar[type[BaseModel]] = MessagesRequest
    without_effect = WITHOUT_EFFECT

    def __init__(self, body: Any, stored_turns: StoredTurns) -> None:
        self.chat_request = to_chat_request(body)

    def answer(self, pending: PendingRequest, completion: Completion) -> dict[str, Any]:
        """The message object."""
        return message_body(completion)

    def encoder(self, pending: PendingRequest) -> BlockSequencer:
        """The stream of message events."""
        return BlockSequencer(MessageEvents(pending))

    @staticmethod
    def error(error: AjetError) -> tuple[int, dict[str, Any]]:
        """HTTP status and the Messages API's error object."""
        return error_body(error)


class CountTokensApi(MessagesApi):
    """A request of the Messages API that is not answered: its prompt's tokens are counted."""

    parameters: ClassVar[type[BaseModel]] = CountTokensRequest
    only_counts = True

    def __init__(self, body: Any, stored_turns: StoredTurns) -> None:
        self.chat_request = to_counted_request(body)

    def token_count(self, num_tokens: int) -> dict[str, Any]:
        """The object with the number of tokens."""
        return {"input_tokens": num_tokens}


class MessageEvents:
    """The `BlockEvents` of a streamed message, in the order that the API specifies."""

    def __init__(self, pending: PendingRequest) -> None:
        self._pending = pending
        self._index = 0
        self._kind: BlockKind = "text"

    def begin(self) -> Iterator[bytes]:
        """`message_start`, with an empty message."""
        message = empty_message(self._pending.name, self._pending.prompt_tokens)
        yield _event("message_start", message=message)

    def open_block(self, kind: BlockKind) -> Iterator[bytes]:
        """`content_block_start` of a text or thinking block."""
        self._kind = kind
        yield self._start(text_block("") if kind == "text" else thinking_block(""))

    def append(self, text: str) -> Iterator[bytes]:
        """`content_block_delta` with new text."""
        if self._kind == "text":
            yield self._delta({"type": "text_delta", "text": text})
        else:
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def close_block(self) -> Iterator[bytes]:
        """`content_block_stop`."""
        yield _event("content_block_stop", index=self._index)
        self._index += 1

    def tool_call(self, call: dict[str, Any]) -> Iterator[bytes]:
        """The whole block of a tool use."""
        block = tool_use_block(call)
        arguments = json.dumps(block["input"], ensure_ascii=False)
        yield self._start({**block, "input": {}})
        yield self._delta({"type": "input_json_delta", "partial_json": arguments})
        yield from self.close_block()

    def end(self, completion: Completion) -> Iterator[bytes]:
        """`message_delta` with stop reason and usage, then `message_stop`."""
        usage = {
            "input_tokens": completion.prompt_tokens,
            "output_tokens": completion.completion_tokens,
        }
        yield _event("message_delta", delta=stop_fields(completion.choices[0]), usage=usage)
        yield _event("message_stop")

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """`error`, with the error object."""
        yield event(error_body(error)[1], "error")

    def _start(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(name: str, **fields: Any) -> bytes:
    return event({"type": name, **fields}, name)
