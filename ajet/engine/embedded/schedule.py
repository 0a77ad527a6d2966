"""Waiting requests, and when each of them joins the running ones.

This module does not import torch. Its objects have no lock: the engine calls them under its own.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ajet.engine.base import OnToken
from ajet.engine.grammar import GrammarState
from ajet.errors import EngineError
from ajet.schema.episode import Generation, SamplingParams

logger = logging.getLogger(__name__)

REFILL_SHARE = 0.5
"""The lockstep admits requests when at most this share of the batch still runs. With a lower share
few rows run for longer; with a higher share the engine waits for sessions more often. On short
completions all values cost the same."""


@dataclass(slots=True, kw_only=True)
class ScheduledEpisode:
    """What the schedule knows about one episode."""

    announced: bool = False
    """`open_session` announced the episode, so the lockstep waits for it."""
    num_calls: int = 0
    """Number of requests so far."""
    away_since_s: float = 0.0
    """When the episode was announced or got its last answer, on the monotonic clock."""
    missed: bool = False
    """The episode stayed away too long; the lockstep does not wait until its next request."""


class ContinuousSchedule:
    """Admits a waiting request as soon as there is room.

    Args:
        max_num_seqs: how many requests may run at the same time.
    """

    def __init__(self, max_num_seqs: int) -> None:
        self.num_missed = 0
        """How often the lockstep continued without a session."""
        self.sessions: dict[str, ScheduledEpisode] = {}
        self.waiting: list[Request] = []
        self._max_num_seqs = max_num_seqs

    def open(self, name: str) -> None:
        """Register an announced episode."""
        session = self.sessions.setdefault(name, ScheduledEpisode())
        session.announced = True
        session.away_since_s = time.monotonic()

    def close(self, name: str) -> None:
        """Forget an episode that has ended."""
        self.sessions.pop(name, None)

    def submit(self, request: Request) -> None:
        """Add a request to the waiting ones; the first of an unknown session registers it."""
        session = self.sessions.setdefault(request.session, ScheduledEpisode())
        request.call_index = session.num_calls
        session.num_calls += 1
        session.missed = False
        self.waiting.append(request)

    def leave(self, requests: Collection[Request]) -> None:
        """Remove requests that were answered or cancelled, even before they were admitted."""
        gone = set(requests)
        self.waiting = [request for request in self.waiting if request not in gone]
        for request in gone:
            if (session := self.sessions.get(request.session)) is not None:
                session.away_since_s = time.monotonic()

    def admit(self, running: Collection[Request]) -> list[Request] | None:
        """The requests that join the running ones now.

        Returns:
            The requests in order; empty: continue with the running ones; None: nothing can be
            computed until a caller does something.
        """
        if not (running or self.waiting):
            return None
        return self._take(self._max_num_seqs - len(running))

    def wake_s(self) -> float | None:
        """Seconds after which `admit` may return something else although no caller did anything.

        None: never.
        """
        return None

    def _take(self, room: int) -> list[Request]:
        taken, self.waiting = self.waiting[:room], self.waiting[room:]
        return taken


class LockstepSchedule(ContinuousSchedule):
    """Batches the same requests together in every run, however fast the episodes are.

    The running requests continue alone until at most `REFILL_SHARE` of them are left. Then the
    engine waits until every announced session has a request, so that no further request can
    arrive, and admits the waiting ones in the order of their session ids. Float rounding depends on
    which requests are batched together, so with this schedule it is the same in every run. One
    exception remains: if a session has two requests at the same time, the speed of the caller
    decides whether the second one arrives in time.

    Args:
        max_num_seqs: how many requests may run at the same time.
        patience_s: how long to wait for a session; one that is away longer is counted as missed.
    """

    def __init__(self, max_num_seqs: int, patience_s: float) -> None:
        super().__init__(max_num_seqs)
        self._patience_s = patience_s
        self._num_started = 0
        self._round = 0
        self._awaited: list[ScheduledEpisode] = []

    def admit(self, running: Collection[Request]) -> list[Request] | None:
        """The requests that join now; None also while the lockstep waits for a session."""
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
        """Seconds until the wait for the session that is away longest ends; None: no wait."""
        if not self._awaited:
            return None
        since = min(session.away_since_s for session in self._awaited)
        return max(0.0, since + self._patience_s - time.monotonic())

    def _await(self, inside: set[str]) -> None:
        """Find the sessions to wait for, and mark those that are away too long as missed."""
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
                # Once per run: an agent that waits for something slow does so in every episode.
                logger.log(
                    logging.WARNING if self.num_missed == 1 else logging.DEBUG,
                    "session %s has made no request for %.0f s; the lockstep continues without it, "
                    "so this run may differ from others in float rounding (the metric "
                    "rollout/lockstep_missed counts such sessions)",
                    name,
                    self._patience_s,
                )

    def _sort_waiting(self) -> None:
        """Order the waiting requests: those of earlier rounds first, then by session and call."""
        self._round += 1
        for request in self.waiting:
            request.round = request.round or self._round
        self.waiting.sort(key=lambda request: (request.round, request.session, request.call_index))


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A prompt that grows into a completion, token by token."""

    session: str
    params: SamplingParams
    ids: list[int]
    """Token ids of the prompt, followed by the sampled ones."""
    max_new: int
    """The most tokens to sample: `params.max_tokens`, or less if the context ends before."""
    call_index: int = 0
    """How many requests the session made before this one."""
    round: int = 0
    """The admission round in which a lockstep first saw the request; 0: none yet."""
    uniforms: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[max_new] float64 in [0, 1): one random number per sampled token."""
    row: int = -1
    """The request's row in the cache; -1: none."""
    grammar: GrammarState | None = None
    """How far the completion has come in its grammar, if it has one."""
    on_token: OnToken | None = None
    """Called with each sampled token and its logprob."""
    generation: Generation = field(default_factory=Generation)
    failure: EngineError | None = None
    """Why the request ended without a completion; the other requests are not affected."""
    future: Future[Generation] = field(default_factory=Future)

    def draw(self, engine_seed: int) -> None:
        """Draw the random numbers, from the request's seed or from its place in its session."""
        # Drawn in advance and per request, so that a completion does not depend on which other
        # requests run at the same time.
        seed = self.params.seed
        name = f"{engine_seed}/{self.session}/{self.call_index}" if seed is None else f"{seed}"
        self.uniforms = uniforms(name, self.max_new)

    def append(self, token: int, logprob: float, policy_version: int) -> None:
        """Add a sampled token to the completion."""
        self.ids.append(token)
        self.generation.token_ids.append(token)
        self.generation.logprobs.append(logprob)
        self.generation.policy_versions.append(policy_version)
        if self.grammar is not None:
            self.grammar.accept(token)
        if self.on_token is not None:
            self.on_token(token, logprob)


def uniforms(name: str, count: int) -> np.ndarray:
    """Random numbers [count] float64 in [0, 1) that depend on `name` only (Philox generator)."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random(count)
