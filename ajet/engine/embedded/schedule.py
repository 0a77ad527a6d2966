"""When a waiting request may join the running ones. Torch-free; the caller holds a lock."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

from ajet.engine.embedded.request import Request

logger = logging.getLogger(__name__)

REFILL_SHARE = 0.5
"""The lockstep lets others join when no more than this share of a batch still runs. Lower is
longer tails with few rows, higher more standing still; on short completions all cost the same."""


@dataclass(slots=True, kw_only=True)
class ScheduledEpisode:
    """What the schedule knows of an episode."""

    announced: bool = False
    """Opened by `open_session`, so that the lockstep waits for it."""
    num_calls: int = 0
    """Requests so far."""
    away_since_s: float = 0.0
    """When it was announced or got its last answer, on the monotonic clock."""
    missed: bool = False
    """Stayed away too long: not waited for until it comes back."""


class ContinuousSchedule:
    """A waiting request runs as soon as there is room."""

    def __init__(self, max_num_seqs: int) -> None:
        self.num_missed = 0
        """Times that the lockstep went on without a session."""
        self.sessions: dict[str, ScheduledEpisode] = {}
        self.waiting: list[Request] = []
        self._max_num_seqs = max_num_seqs

    def open(self, name: str) -> None:
        """An episode is announced."""
        session = self.sessions.setdefault(name, ScheduledEpisode())
        session.announced = True
        session.away_since_s = time.monotonic()

    def close(self, name: str) -> None:
        """The episode is over."""
        self.sessions.pop(name, None)

    def submit(self, request: Request) -> None:
        """A request arrives; the first of an unknown session makes it known."""
        session = self.sessions.setdefault(request.session, ScheduledEpisode())
        request.call_index = session.num_calls
        session.num_calls += 1
        session.missed = False
        self.waiting.append(request)

    def leave(self, requests: Collection[Request]) -> None:
        """Requests are over: answered, or cancelled, maybe before they were admitted."""
        gone = set(requests)
        self.waiting = [request for request in self.waiting if request not in gone]
        for request in gone:
            if (session := self.sessions.get(request.session)) is not None:
                session.away_since_s = time.monotonic()

    def admit(self, running: Collection[Request]) -> list[Request] | None:
        """Requests that join now, in order; empty to go on without; None to wait for callers."""
        if not (running or self.waiting):
            return None
        return self._take(self._max_num_seqs - len(running))

    def wake_s(self) -> float | None:
        """Seconds after which `admit` may answer otherwise though nobody called."""
        return None

    def _take(self, room: int) -> list[Request]:
        taken, self.waiting = self.waiting[:room], self.waiting[room:]
        return taken


class LockstepSchedule(ContinuousSchedule):
    """What runs together is a function of the episodes' progress, never of their speed.

    The running requests go on by themselves until no more than `REFILL_SHARE` of them are left.
    Then the engine stands still until every announced session has a request inside, so that
    nobody can still change what is waiting, and lets the waiting ones join, ordered by session
    id. Float rounding depends on what is batched together: with this, it is the same in every
    run. The exception is a session with requests in parallel: whether its second one arrives in
    time is up to the caller's speed.

    Args:
        max_num_seqs: requests that may run at once.
        patience_s: a session that is away for longer is not waited for, and counted.
    """

    def __init__(self, max_num_seqs: int, patience_s: float) -> None:
        super().__init__(max_num_seqs)
        self._patience_s = patience_s
        self._num_started = 0
        self._round = 0
        self._awaited: list[ScheduledEpisode] = []

    def admit(self, running: Collection[Request]) -> list[Request] | None:
        """As in the base class; None also while a session is awaited."""
        if len(running) > REFILL_SHARE * self._num_started:
            return []
        self._await(inside={request.session for request in [*running, *self.waiting]})
        if self._awaited or not (running or self.waiting):
            return None
        self._sort_waiting()
        taken = self._take(self._max_num_seqs - len(running))
        self._num_started = len(running) + len(taken)
        return taken

    def wake_s(self) -> float | None:
        """Seconds until patience with the session that is away longest ends."""
        if not self._awaited:
            return None
        since = min(session.away_since_s for session in self._awaited)
        return max(0.0, since + self._patience_s - time.monotonic())

    def _await(self, inside: set[str]) -> None:
        """Find whom to wait for, and lose patience with those that are away too long."""
        self._awaited = []
        now = time.monotonic()
        for name, session in self.sessions.items():
            if not session.announced or session.missed or name in inside:
                continue
            if now < session.away_since_s + self._patience_s:
                self._awaited.append(session)
            else:
                session.missed = True
                self.num_missed += 1
                logger.warning(
                    "session %s has been away for %.0f s: the lockstep goes on without it, so "
                    "that this run may differ from another in float rounding",
                    name,
                    self._patience_s,
                )

    def _sort_waiting(self) -> None:
        """Those that an earlier round left first, then by session, then as they were made."""
        self._round += 1
        for request in self.waiting:
            request.round = request.round or self._round
        self.waiting.sort(key=lambda request: (request.round, request.session, request.call_index))
