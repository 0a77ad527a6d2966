"""Streaming: from tokens in the engine's thread to deltas in the reader's event loop.

The engine calls `ChoiceStream.put` for each token, usually from its own thread. The reader awaits
`StreamNotifier.wait` and then asks each stream for what is new.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat
from ajet.gateway.completion import Delta, PendingCompletion, token_logprobs
from ajet.gateway.stable_text import StableText

MIN_PAUSE_S = 0.1
"""Shortest time between two wake-ups of a reader: people do not see more, and each one costs."""


class StreamNotifier:
    """Wakes the reader of a stream: at once the first time, then at most every `MIN_PAUSE_S`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_notified = False
        self._next_s = self._loop.time()

    def notify(self) -> None:
        """Say that there is something new; safe to call from any thread."""
        # The flag saves a wake-up of the loop for every token but the first of a pause. It needs
        # no lock: where two threads race, the reader is woken once too often, never too rarely.
        if not self._is_notified:
            self._is_notified = True
            with suppress(RuntimeError):  # the reader's loop was closed: nobody is left to wake
                self._loop.call_soon_threadsafe(self._wake_in_time)

    def end(self, task: asyncio.Task[Any]) -> None:
        """Wake the reader without a pause, as the done callback of the task that notified."""
        if not task.cancelled():
            task.exception()  # marks it as retrieved, for the case that the reader has gone
        self._event.set()

    async def wait(self) -> None:
        """Return when there is something new."""
        await self._event.wait()
        self._event.clear()
        # Reset before the reader looks: a token that arrives while it looks notifies again.
        self._is_notified = False
        self._next_s = self._loop.time() + MIN_PAUSE_S

    def _wake_in_time(self) -> None:
        pause_s = self._next_s - self._loop.time()
        if pause_s > 0:
            self._loop.call_later(pause_s, self._event.set)
        else:
            self._event.set()


class ChoiceStream:
    """One completion while it grows.

    It takes tokens in the engine's thread and gives deltas in the reader's. With `is_json`, the
    request demands JSON, and a code fence around it is left out.
    """

    def __init__(
        self,
        index: int,
        chat_format: ChatFormat,
        pending: PendingCompletion,
        notifier: StreamNotifier,
        is_json: bool = False,
    ) -> None:
        self._index = index
        self._chat_format = chat_format
        self._text = StableText(chat_format, pending, is_json)
        self._notifier = notifier
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._with_logprobs = pending.with_logprobs
        self._num_emitted = 0
        """Tokens whose logprobs were emitted."""

    def put(self, token_id: int, logprob: float) -> None:
        """Add one token; called in the engine's thread."""
        # The logprob first: the reader goes by the number of ids, and must find as many logprobs.
        self._logprobs.append(logprob)
        self._token_ids.append(token_id)
        self._notifier.notify()

    def advance(self) -> Delta | None:
        """What is new and cannot change any more; None if there is nothing."""
        return self._delta(*self._text.advance(self._token_ids))

    def finish(self, message: dict[str, Any]) -> Delta | None:
        """The rest of the finished message, which may be changed; see `StableText.finish`."""
        reasoning, content = self._text.finish(message)
        return self._delta(reasoning, content, is_last=True)

    def _delta(self, reasoning: str, content: str, is_last: bool = False) -> Delta | None:
        if not (reasoning or content or is_last):
            return None
        logprobs = self._new_logprobs() if self._with_logprobs else None
        if not (reasoning or content or logprobs):
            return None
        return Delta(index=self._index, reasoning=reasoning, content=content, logprobs=logprobs)

    def _new_logprobs(self) -> list[dict[str, Any]]:
        # One reading of the length: the engine's thread may append meanwhile.
        start, self._num_emitted = self._num_emitted, len(self._token_ids)
        token_ids = self._token_ids[start : self._num_emitted]
        logprobs = self._logprobs[start : self._num_emitted]
        return token_logprobs(self._chat_format, token_ids, logprobs)
