"""`POST /v1/responses`: the answer as one response object, or as a stream of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ajet.errors import AjetError
from ajet.gateway.apis.base import WireApi
from ajet.gateway.apis.block_stream import BlockKind, BlockSequencer
from ajet.gateway.apis.chat_completions.api import ChatCompletionsApi
from ajet.gateway.apis.responses.body import (
    call_item,
    finished_body,
    message_item,
    reasoning_item,
    response_id,
    text_part,
    unfinished_body,
)
from ajet.gateway.apis.responses.request import (
    WITHOUT_EFFECT,
    ResponsesRequest,
    new_messages,
    parse_responses_request,
    to_chat_request,
)
from ajet.gateway.completion import Completion, PendingRequest, event
from ajet.gateway.gateway import StoredTurns


class ResponsesApi(WireApi):
    """One request of OpenAI's Responses API, which may continue a stored turn."""

    parameters = ResponsesRequest
    without_effect = WITHOUT_EFFECT

    def __init__(self, body: Any, stored_turns: StoredTurns) -> None:
        self._request = parse_responses_request(body)
        self._stored_turns = stored_turns
        self._previous = stored_turns.find(self._request.previous_response_id)
        self._new_messages = new_messages(self._request)
        history = self._previous.history() if self._previous else []
        self.chat_request = to_chat_request(self._request, history, self._new_messages)

    def answer(self, pending: PendingRequest, completion: Completion) -> dict[str, Any]:
        """The response object; the turn is stored unless the request says `store: false`."""
        if self._request.store is not False:
            messages = [*self._new_messages, completion.choices[0].message]
            self._stored_turns.add(response_id(pending), self._previous, messages)
        return finished_body(self._request, pending, completion)

    def encoder(self, pending: PendingRequest) -> BlockSequencer:
        """The stream of response events; the turn is stored with the last one."""
        finish = partial(self.answer, pending)
        return BlockSequencer(ResponseEvents(self._request, pending, finish))

    @staticmethod
    def error(error: AjetError) -> tuple[int, dict[str, Any]]:
        """HTTP status and the OpenAI API's error object."""
        return ChatCompletionsApi.error(error)


class ResponseEvents:
    """The `BlockEvents` of a streamed response, in the order that the API specifies.

    Each block is an output item.

    Args:
        request: the request as the client sent it.
        pending: the same request in the gateway's terms.
        finish: makes the final response object.
    """

    def __init__(
        self,
        request: ResponsesRequest,
        pending: PendingRequest,
        finish: Callable[[Completion], dict[str, Any]],
    ) -> None:
        self._request = request
        self._pending = pending
        self._finish = finish
        self._num_events = 0
        self._output_index = 0
        self._kind: BlockKind = "text"
        self._text = ""

    def begin(self) -> Iterator[bytes]:
        """`response.created` and `response.in_progress`."""
        for name in ("response.created", "response.in_progress"):
            yield self._event(name, response=unfinished_body(self._request, self._pending))

    def open_block(self, kind: BlockKind) -> Iterator[bytes]:
        """The start of an item and of its only part."""
        self._kind, self._text = kind, ""
        yield self._item_event("response.output_item.added", self._item("in_progress", []))
        yield self._part_event("response.content_part.added", part=self._part())

    def append(self, text: str) -> Iterator[bytes]:
        """New text in the part."""
        self._text += text
        yield self._part_event(f"{self._text_event}.delta", delta=text, **self._no_logprobs)

    def close_block(self) -> Iterator[bytes]:
        """The end of the part and of its item."""
        part = self._part()
        yield self._part_event(f"{self._text_event}.done", text=self._text, **self._no_logprobs)
        yield self._part_event("response.content_part.done", part=part)
        yield self._item_event("response.output_item.done", self._item("completed", [part]))
        self._output_index += 1

    def tool_call(self, call: dict[str, Any]) -> Iterator[bytes]:
        """All events of a tool call's item."""
        item = call_item(call)
        place = {"item_id": item["id"], "output_index": self._output_index}
        arguments = item["arguments"]
        empty = {**item, "arguments": "", "status": "in_progress"}
        yield self._item_event("response.output_item.added", empty)
        yield self._event("response.function_call_arguments.delta", delta=arguments, **place)
        yield self._event("response.function_call_arguments.done", arguments=arguments, **place)
        yield self._item_event("response.output_item.done", item)
        self._output_index += 1

    def end(self, completion: Completion) -> Iterator[bytes]:
        """`response.completed` or `response.incomplete`."""
        body = self._finish(completion)
        yield self._event(f"response.{body['status']}", response=body)

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """`response.failed`."""
        body = unfinished_body(self._request, self._pending, "failed")
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
        name = self._pending.name
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
