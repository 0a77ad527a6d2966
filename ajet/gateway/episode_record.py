"""Everything that the gateway records of one episode: its tokens, and what went wrong."""

from __future__ import annotations

import threading

from ajet.context_tracker.tracker import ContextTracker
from ajet.errors import EngineError
from ajet.schema.call import Call


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
