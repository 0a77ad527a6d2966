"""Everything that the gateway records of one episode, and the turns that a client may refer to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ajet.context_tracker.tracker import ContextTracker
from ajet.errors import EngineError, RequestError
from ajet.schema.call import Call


@dataclass(slots=True, kw_only=True, frozen=True)
class OpenCall:
    """A request that the engine has not answered yet."""

    agent_name: str
    since_s: float
    """Unix time, seconds."""


class EpisodeRecord:
    """The record of one episode, shared by all of its agents; safe to use from any thread.

    Tokens are in `tracker`. Faults are kept here because client libraries turn exceptions into
    their own, so that the runner could not tell a failed engine from a failed workflow.
    """

    def __init__(self, tracker: ContextTracker) -> None:
        self.tracker = tracker
        self.engine_error: EngineError | None = None
        """The first infrastructure fault of the episode."""
        self.context_overflows = 0
        """Requests that were refused because the context was full."""
        self.ended_by_check: str | None = None
        """The rule that ended the episode (`rollout.agent_madness_termination`), if one did."""
        self._lock = threading.Lock()
        self._open_calls: dict[int, OpenCall] = {}

    @contextmanager
    def open_call(self, agent_name: str) -> Iterator[None]:
        """Note that an agent waits for the engine until the block ends."""
        call = OpenCall(agent_name=agent_name, since_s=time.time())
        self._open_calls[id(call)] = call
        try:
            yield
        finally:
            del self._open_calls[id(call)]

    @property
    def open_calls(self) -> list[OpenCall]:
        """The requests that the engine has not answered yet."""
        return list(self._open_calls.values())

    @property
    def context_overflow(self) -> bool:
        """Whether a request of this episode was refused because the context was full."""
        return self.context_overflows > 0

    @property
    def calls(self) -> list[Call]:
        """The answered calls, in the order of their requests."""
        return self.tracker.calls

    def add_engine_error(self, error: EngineError) -> None:
        """Keep an infrastructure fault, if it is the first: later ones may follow from it."""
        with self._lock:
            self.engine_error = self.engine_error or error

    def add_context_overflow(self) -> None:
        """Count a request that was refused because the context was full."""
        with self._lock:  # agents of one episode may be served by different threads
            self.context_overflows += 1


@dataclass(slots=True, kw_only=True)
class StoredTurn:
    """One request and its answer."""

    previous: StoredTurn | None
    messages: list[dict[str, Any]]
    """The messages that the request added, without its instructions, and the answer."""

    def history(self) -> list[dict[str, Any]]:
        """All messages from the first turn up to this turn's answer."""
        turns: list[StoredTurn] = []
        turn: StoredTurn | None = self
        while turn is not None:
            turns.append(turn)
            turn = turn.previous
        return [message for turn in reversed(turns) for message in turn.messages]


class StoredTurns:
    """The stored turns of one agent in one episode."""

    def __init__(self) -> None:
        self._turns: dict[str, StoredTurn] = {}

    def find(self, response_id: str | None) -> StoredTurn | None:
        """The turn with that id; None if the id is None.

        Raises:
            RequestError: there is no such turn.
        """
        if response_id is None:
            return None
        turn = self._turns.get(response_id)
        if turn is None:
            raise RequestError(
                f"previous_response_id: {response_id!r} is no stored response of this agent",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return turn

    def add(
        self, response_id: str, previous: StoredTurn | None, messages: list[dict[str, Any]]
    ) -> None:
        """Store a turn."""
        self._turns[response_id] = StoredTurn(previous=previous, messages=messages)
