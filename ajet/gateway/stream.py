"""One completion of a stream, as it grows."""

from __future__ import annotations

from typing import Any

from ajet.context_tracker.chat_format import ChatFormat
from ajet.gateway.bell import StreamNotifier
from ajet.gateway.completion import Delta, token_logprobs
from ajet.gateway.pending import PendingCompletion
from ajet.gateway.stable_text import StableText


class ChoiceStream:
    """Takes tokens from the engine's thread, gives deltas in the reader's."""

    def __init__(
        self, index: int, chat_format: ChatFormat, wanted: PendingCompletion, bell: StreamNotifier
    ) -> None:
        self._index = index
        self._chat_format = chat_format
        self._text = StableText(chat_format, wanted)
        self._bell = bell
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._with_logprobs = wanted.with_logprobs
        self._num_told = 0
        """Tokens whose logprobs were told."""

    def put(self, token_id: int, logprob: float) -> None:
        """One token more. The engine's thread."""
        self._logprobs.append(logprob)
        self._token_ids.append(token_id)
        self._bell.ring()

    def advance(self) -> Delta | None:
        """What is new and certain; None for nothing."""
        return self._delta(*self._text.advance(self._token_ids))

    def finish(self, message: dict[str, Any]) -> Delta | None:
        """The rest of the finished message; see `SettledText.finish`."""
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
        start, self._num_told = self._num_told, len(self._token_ids)
        token_ids = self._token_ids[start : self._num_told]
        logprobs = self._logprobs[start : self._num_told]
        return token_logprobs(self._chat_format, token_ids, logprobs)
