"""A streamed answer as a row of blocks: reasoning, text, tool calls, one at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Literal, Protocol

from ajet.errors import AjetError
from ajet.gateway.completion import Completion, Delta
from ajet.gateway.gateway import AgentSession
from ajet.gateway.pending import PendingRequest

Kind = Literal["reasoning", "text"]


class BlockEvents(Protocol):
    """One API's events for what happens in a stream."""

    def begin(self) -> Iterator[bytes]:
        """The answer begins."""
        ...

    def open(self, kind: Kind) -> Iterator[bytes]:
        """A block begins."""
        ...

    def more(self, text: str) -> Iterator[bytes]:
        """The open block grows."""
        ...

    def close(self) -> Iterator[bytes]:
        """The open block is whole."""
        ...

    def call(self, call: dict[str, Any]) -> Iterator[bytes]:
        """A whole tool call, in the shape of the chat-completions API."""
        ...

    def end(self, answer: Completion) -> Iterator[bytes]:
        """The answer is whole."""
        ...

    def fail(self, error: AjetError) -> Iterator[bytes]:
        """There will be no answer."""
        ...


async def block_events(
    port: AgentSession, asked: PendingRequest, to: BlockEvents
) -> AsyncGenerator[bytes, None]:
    """Answer a request that wants one completion, in the events of an API."""
    try:
        for event in to.begin():
            yield event
        async with aclosing(port.stream(asked)) as items:
            row = BlockSequencer(to)
            async for item in items:
                for event in row.add(item):
                    yield event
    except AjetError as error:
        for event in to.fail(error):
            yield event


class BlockSequencer:
    def __init__(self, to: BlockEvents) -> None:
        self._to = to
        self._open: Kind | None = None
        self._has_text = False

    def add(self, item: Delta | Completion) -> Iterator[bytes]:
        if isinstance(item, Delta):
            yield from self._grow("reasoning", item.reasoning)
            yield from self._grow("text", item.content)
        else:
            yield from self._end(item)

    def _grow(self, kind: Kind, text: str) -> Iterator[bytes]:
        if text:
            yield from self._switch_to(kind)
            yield from self._to.more(text)

    def _end(self, answer: Completion) -> Iterator[bytes]:
        calls = answer.choices[0].tool_calls
        if not calls and not self._has_text:
            yield from self._switch_to("text")
        yield from self._switch_to(None)
        for call in calls:
            yield from self._to.call(call)
        yield from self._to.end(answer)

    def _switch_to(self, kind: Kind | None) -> Iterator[bytes]:
        if kind == self._open:
            return
        if self._open is not None:
            yield from self._to.close()
        if kind is not None:
            yield from self._to.open(kind)
        self._open = kind
        self._has_text |= kind == "text"
