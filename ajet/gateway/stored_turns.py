"""Answered requests that a later one may continue by `previous_response_id`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ajet.errors import RequestError


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
