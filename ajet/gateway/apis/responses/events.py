"""The events of a streamed response, in the order that the API promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ajet.errors import AjetError
from ajet.gateway.apis.block_stream import Kind
from ajet.gateway.apis.responses.body import (
    call_item,
    message_item,
    reasoning_item,
    text_part,
    unfinished_body,
)
from ajet.gateway.apis.responses.request import ResponsesRequest
from ajet.gateway.completion import Completion
from ajet.gateway.pending import PendingRequest
from ajet.gateway.reply import event


class ResponseEvents:
    """See `BlockEvents`; each block is an item of the output.

    Args:
        request: what was asked.
        asked: the same on its way.
        finish: makes the final response object.
    """

    def __init__(
        self,
        request: ResponsesRequest,
        asked: PendingRequest,
        finish: Callable[[Completion], dict[str, Any]],
    ) -> None:
        self._request = request
        self._asked = asked
        self._finish = finish
        self._num_events = 0
        self._output_index = 0
        self._kind: Kind = "text"
        self._text = ""

    def begin(self) -> Iterator[bytes]:
        """The response begins."""
        for name in ("response.created", "response.in_progress"):
            yield self._event(name, response=unfinished_body(self._request, self._asked))

    def open(self, kind: Kind) -> Iterator[bytes]:
        """An item begins, and its only part."""
        self._kind, self._text = kind, ""
        yield self._item_event("response.output_item.added", self._item("in_progress", []))
        yield self._part_event("response.content_part.added", part=self._part())

    def more(self, text: str) -> Iterator[bytes]:
        """The part grows."""
        self._text += text
        yield self._part_event(f"{self._text_event}.delta", delta=text, **self._no_logprobs)

    def close(self) -> Iterator[bytes]:
        """Part and item are whole."""
        part = self._part()
        yield self._part_event(f"{self._text_event}.done", text=self._text, **self._no_logprobs)
        yield self._part_event("response.content_part.done", part=part)
        yield self._item_event("response.output_item.done", self._item("completed", [part]))
        self._output_index += 1

    def call(self, call: dict[str, Any]) -> Iterator[bytes]:
        """An item that is whole at once."""
        item = call_item(call)
        place = {"item_id": item["id"], "output_index": self._output_index}
        arguments = item["arguments"]
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield self._item_event("response.output_item.added", begun)
        yield self._event("response.function_call_arguments.delta", delta=arguments, **place)
        yield self._event("response.function_call_arguments.done", arguments=arguments, **place)
        yield self._item_event("response.output_item.done", item)
        self._output_index += 1

    def end(self, answer: Completion) -> Iterator[bytes]:
        """The response is whole."""
        body = self._finish(answer)
        yield self._event(f"response.{body['status']}", response=body)

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """The response failed."""
        body = unfinished_body(self._request, self._asked, "failed")
        body["error"] = {"code": "server_error", "message": str(error)}
        yield self._event("response.failed", response=body)

    @property
    def _text_event(self) -> str:
        kind = "output_text" if self._kind == "text" else "reasoning_text"
        return f"response.{kind}"

    @property
    def _no_logprobs(self) -> dict[str, Any]:
        return {"logprobs": []} if self._kind == "text" else {}

    def _part(self) -> dict[str, Any]:
        if self._kind == "text":
            return text_part(self._text)
        return {"type": "reasoning_text", "text": self._text}

    def _item(self, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        name = self._asked.name
        if self._kind == "text":
            return message_item(name, parts, status)
        return reasoning_item(name, self._text, status)

    def _part_event(self, name: str, **fields: Any) -> bytes:
        item_id = self._item("in_progress", [])["id"]
        place = {"item_id": item_id, "output_index": self._output_index, "content_index": 0}
        return self._event(name, **place, **fields)

    def _item_event(self, name: str, item: dict[str, Any]) -> bytes:
        return self._event(name, output_index=self._output_index, item=item)

    def _event(self, name: str, **fields: Any) -> bytes:
        content = {"type": name, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        return event(content, name)
