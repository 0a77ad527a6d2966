"""The events of a streamed message, in the order that the API promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ajet.errors import AjetError
from ajet.gateway.apis.block_stream import Kind
from ajet.gateway.apis.messages.body import (
    empty_message,
    error_body,
    stop_of,
    text_block,
    thinking_block,
    tool_use_block,
)
from ajet.gateway.completion import Completion
from ajet.gateway.pending import PendingRequest
from ajet.gateway.reply import event


class MessageEvents:
    """See `BlockEvents`."""

    def __init__(self, asked: PendingRequest) -> None:
        self._asked = asked
        self._index = 0
        self._kind: Kind = "text"

    def begin(self) -> Iterator[bytes]:
        """The message begins."""
        message = empty_message(self._asked.name, self._asked.prompt_tokens)
        yield _event("message_start", message=message)

    def open(self, kind: Kind) -> Iterator[bytes]:
        """A block begins."""
        self._kind = kind
        yield self._start(text_block("") if kind == "text" else thinking_block(""))

    def more(self, text: str) -> Iterator[bytes]:
        """The block grows."""
        if self._kind == "text":
            yield self._delta({"type": "text_delta", "text": text})
        else:
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def close(self) -> Iterator[bytes]:
        """The block is whole."""
        yield _event("content_block_stop", index=self._index)
        self._index += 1

    def call(self, call: dict[str, Any]) -> Iterator[bytes]:
        """A tool use that is whole at once."""
        block = tool_use_block(call)
        arguments = json.dumps(block["input"], ensure_ascii=False)
        yield self._start({**block, "input": {}})
        yield self._delta({"type": "input_json_delta", "partial_json": arguments})
        yield from self.close()

    def end(self, answer: Completion) -> Iterator[bytes]:
        """The message is whole."""
        usage = {
            "input_tokens": answer.prompt_tokens,
            "output_tokens": answer.completion_tokens,
        }
        yield _event("message_delta", delta=stop_of(answer.choices[0]), usage=usage)
        yield _event("message_stop")

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """The message failed."""
        yield event(error_body(error)[1], "error")

    def _start(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(name: str, **fields: Any) -> bytes:
    return event({"type": name, **fields}, name)
