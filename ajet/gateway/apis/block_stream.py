"""A streamed answer as a sequence of blocks, one at a time: reasoning, text, tool calls.

The Messages and the Responses API both stream like this; they differ only in their events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

from ajet.errors import AjetError
from ajet.gateway.completion import Completion, Delta

BlockKind = Literal["reasoning", "text"]


class BlockEvents(Protocol):
    """One API's server-sent events for each thing that happens in a stream."""

    def begin(self) -> Iterator[bytes]:
        """Events at the start of the answer."""
        ...

    def open_block(self, kind: BlockKind) -> Iterator[bytes]:
        """Events at the start of a block."""
        ...

    def append(self, text: str) -> Iterator[bytes]:
        """Events for new text in the open block."""
        ...

    def close_block(self) -> Iterator[bytes]:
        """Events at the end of the open block."""
        ...

    def tool_call(self, call: dict[str, Any]) -> Iterator[bytes]:
        """Events for a complete tool call, given in the shape of the chat-completions API."""
        ...

    def end(self, completion: Completion) -> Iterator[bytes]:
        """Events at the end of the answer."""
        ...

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """Events for an answer that ends with an error."""
        ...


class BlockSequencer:
    """A `StreamEncoder` that puts deltas into blocks."""

    def __init__(self, events: BlockEvents) -> None:
        self._events = events
        self._open: BlockKind | None = None
        self._has_text = False

    def begin(self) -> Iterator[bytes]:
        """Events at the start of the answer."""
        return self._events.begin()

    def add(self, item: Delta | Completion) -> Iterator[bytes]:
        """Events for new text, or for the whole completion."""
        if isinstance(item, Delta):
            yield from self._append("reasoning", item.reasoning)
            yield from self._append("text", item.content)
        else:
            yield from self._end(item)

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """Events for an answer that ends with an error."""
        return self._events.fail(error)

    def _append(self, kind: BlockKind, text: str) -> Iterator[bytes]:
        if text:
            yield from self._switch_to(kind)
            yield from self._events.append(text)

    def _end(self, completion: Completion) -> Iterator[bytes]:
        calls = completion.choices[0].tool_calls
        if not calls and not self._has_text:
            # As in the whole answer: without a tool call there is always a text block.
            yield from self._switch_to("text")
        yield from self._switch_to(None)
        for call in calls:
            yield from self._events.tool_call(call)
        yield from self._events.end(completion)

    def _switch_to(self, kind: BlockKind | None) -> Iterator[bytes]:
        if kind == self._open:
            return
        if self._open is not None:
            yield from self._events.close_block()
        if kind is not None:
            yield from self._events.open_block(kind)
        self._open = kind
        self._has_text |= kind == "text"
