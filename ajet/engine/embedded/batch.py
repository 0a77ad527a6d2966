"""The requests that run together, and the cache rows that they use. Does not import torch.

`EngineBatch` plans each step: which prompts are computed, which requests get a token. `SlotTable`
knows which request and session use which row, and whose tokens each row holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ajet.engine.embedded.schedule import Request
from ajet.errors import EngineError
from ajet.schema.episode import finish_reason

if TYPE_CHECKING:
    import torch

    from ajet.engine.embedded.model_runner import ModelRunner

T = TypeVar("T")

NOT_FINITE = (
    "the model's logits are NaN or infinite for this request, so no token can be sampled; its "
    "weights are finite, so the prompt or the dtype is the cause"
)

MIN_SHARED = 16
"""Shortest common prefix worth waiting for, in tokens; a shorter one is computed twice."""

STUCK = (
    "no token of the model's vocabulary can follow in the demanded JSON schema; set "
    "rollout.response_format: prompt"
)


@dataclass(slots=True, kw_only=True)
class EngineCounters:
    """Counts the work of an engine since it was made."""

    passes: int = 0
    """Forward passes."""
    computed_tokens: int = 0
    """Tokens that went through the model."""
    sampled_tokens: int = 0
    """Tokens that were sampled."""


class EngineBatch:
    """The admitted requests: first they wait for their prompts to be computed, then they run.

    Args:
        runner: computes and samples.
        decode: turns token ids into text, for stop strings.
        slots: the cache rows of the requests.
        prefill_chunk_tokens: the most prompt tokens in one forward pass.
    """

    def __init__(
        self,
        runner: ModelRunner,
        decode: Callable[[list[int]], str],
        slots: SlotTable,
        prefill_chunk_tokens: int,
    ) -> None:
        self.counters = EngineCounters()
        self._runner = runner
        self._decode = decode
        self._slots = slots
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self._line: list[Request] = []

    @property
    def requests(self) -> list[Request]:
        """All requests that were admitted and have not ended."""
        running = [request for request in self._slots.requests if request is not None]
        return running + [request for request in self._line if request.row < 0]

    def join(self, requests: list[Request]) -> None:
        """Add requests to the batch."""
        self._line += requests

    def leave(self, requests: Collection[Request]) -> None:
        """Remove requests; their keys and values stay in the cache rows for later calls."""
        for request in requests:
            if request.row >= 0:
                self._slots.release(request)
        self._leave_line(requests)

    def forget(self) -> None:
        """Drop all keys and values and their memory; running requests compute theirs again."""
        self._line = self.requests
        for request in self._line:
            request.row = -1
        self._slots.clear()
        self._runner.cache.clear()

    def step(self, policy_version: int) -> list[Request]:
        """Compute the prompts that wait; if none does, sample one token for each running request.

        Returns:
            The requests that ended in this step; they are no longer in the batch. One whose
            logits are NaN or infinite has its `failure` set; the others continue.

        Raises:
            EngineError: the model's weights are NaN or infinite.
        """
        parts = self._prefill_parts() if self._line else [self._decode_rows()]
        ended = []
        for part in parts:
            ended += self._advance(part, policy_version)
        self.leave(ended)
        return ended

    def _prefill_parts(self) -> Iterator[list[Request]]:
        """The requests of each forward pass, of bounded size and with chunks of similar length."""
        plan = self._slots.plan(self._line)
        self._fit_cache()
        if plan.copies:
            self._runner.cache.copy([*plan.copies.values()], [*plan.copies], plan.num_copied)
        # Similar lengths go together, because every chunk of a pass is padded to the longest.
        requests = sorted(plan.requests, key=lambda request: -len(self._todo(request)))
        while requests:
            count = max(1, self._prefill_chunk_tokens // len(self._todo(requests[0])))
            yield requests[:count]
            requests = requests[count:]

    def _decode_rows(self) -> list[Request]:
        """All running requests, moved to the first rows so that the model reads them in place."""
        sources, targets = self._slots.pack()
        if sources:
            self._runner.cache.copy(sources, targets, int(self._slots.length[targets].max()))
        running = self.requests
        self._slots.reach(max(len(request.ids) for request in running))
        self._fit_cache()
        return running

    def _fit_cache(self) -> None:
        if self._slots.shape != self._runner.cache.shape:
            self._runner.cache.resize(*self._slots.shape)

    def _todo(self, request: Request) -> list[int]:
        """The tokens of the request that go through the model next."""
        start = self._slots.length[request.row]
        return request.ids[start : start + self._prefill_chunk_tokens]

    def _advance(self, requests: list[Request], policy_version: int) -> list[Request]:
        """Run one forward pass, and sample for the requests whose prompt is complete.

        Returns:
            The requests that end with the sampled token.
        """
        rows = [request.row for request in requests]
        chunks = [self._todo(request) for request in requests]
        logits = self._runner.forward(rows, self._slots.length[rows], chunks)
        for row, chunk in zip(rows, chunks, strict=True):
            self._slots.hold(row, chunk)
        self.counters.passes += 1
        self.counters.computed_tokens += sum(map(len, chunks))
        is_ready = [int(self._slots.length[r.row]) == len(r.ids) for r in requests]
        if not all(is_ready):
            logits = logits[np.array(is_ready)]
            requests = [request for request, ready in zip(requests, is_ready, strict=True) if ready]
        self._leave_line(requests)
        return self._sample(requests, logits, policy_version) if requests else []

    def _sample(
        self, requests: list[Request], logits: torch.Tensor, policy_version: int
    ) -> list[Request]:
        tokens, logprobs = self._runner.sample(logits, requests)
        ended = []
        for request, token, logprob in zip(requests, tokens, logprobs, strict=True):
            if not math.isfinite(logprob):
                # Rows do not influence each other: with good weights, only this request fails.
                self._runner.check_weights()
                request.failure = EngineError(NOT_FINITE if request.grammar is None else STUCK)
                ended.append(request)
                continue
            self.counters.sampled_tokens += 1
            request.append(token, logprob, policy_version)
            generation = request.generation
            reason = finish_reason(
                generation.token_ids, request.params, request.max_new, self._decode
            )
            if reason is not None:
                generation.finish_reason = reason
                ended.append(request)
        return ended

    def _leave_line(self, requests: Collection[Request]) -> None:
        if self._line:
            gone = set(requests)
            self._line = [request for request in self._line if request not in gone]


@dataclass(slots=True, kw_only=True)
class PrefillPlan:
    """Which waiting requests compute their prompts next, and which rows are copied before."""

    requests: list[Request] = field(default_factory=list)
    """The requests; each has a row, and its prefill starts at `SlotTable.length` of that row."""
    copies: dict[int, int] = field(default_factory=dict)
    """Target row -> source row of a copy; all copies happen at the same time."""
    num_copied: int = 0
    """How many first tokens each copy takes over."""


class SlotTable:
    """The rows in which requests run; they keep an episode's tokens from call to call.

    A finished request leaves its tokens in its row. The next request starts from the row with the
    longest common prefix. It takes that row over if the row is idle and belongs to the same session
    or to a closed one. Otherwise it gets another row, into which the prefix is copied.

    Args:
        max_rows: the most rows.
        max_columns: the most tokens in a row.
        sessions: names of the sessions that may still make requests. The container is read at each
            decision and not copied, because the schedule changes it.
        whole_rows: whether a prefix is reused only if it is all that a row holds, because the
            model keeps states that stand for the whole row.
    """

    def __init__(
        self,
        max_rows: int,
        max_columns: int,
        sessions: Container[str],
        *,
        whole_rows: bool = False,
    ) -> None:
        self._whole_rows = whole_rows
        self._max_rows = max_rows
        self._max_columns = max_columns
        self._sessions = sessions
        self.ids: np.ndarray
        """[rows, columns] int32: token ids; `length` says how many of a row are valid."""
        self.length: np.ndarray
        """[rows] int64: number of tokens whose keys and values are in the cache."""
        self.requests: list[Request | None]
        """The request that runs in each row now."""
        self._owners: list[str]  # the session that used each row last
        self._last_used: list[int]
        self.clear()

    @property
    def shape(self) -> tuple[int, int]:
        """Current number of rows and columns; the cache is resized to it."""
        return self.ids.shape[0], self.ids.shape[1]

    def reach(self, num_tokens: int) -> None:
        """Grow the rows to hold a sequence of this length."""
        rows, columns = self.shape
        if num_tokens > columns:
            self._resize(rows, min(max(num_tokens, 2 * columns), self._max_columns))

    def plan(self, line: list[Request]) -> PrefillPlan:
        """Give rows to the requests that can start, and reuse prefixes that are in the cache.

        If several requests need the same tokens, the first computes them and the others wait, to
        copy them in the next pass. So the preamble of an agent and the common prompt of a group are
        computed once.
        """
        self.reach(max(len(request.ids) for request in line))
        plan = PrefillPlan()
        computing = set()
        for request in line:
            if request.row < 0:
                shared = self._shared_prefix(request.ids)
                source = int(shared.argmax())
                start = int(shared[source])
            else:
                source, start = request.row, int(self.length[request.row])
            # Two requests that share more than the cache has also have the same `start`, and so
            # the same key.
            key = tuple(request.ids[: start + MIN_SHARED])
            # With whole rows, there would be nothing to copy after the wait.
            can_wait = not self._whole_rows and len(request.ids) > start + MIN_SHARED
            if key in computing and can_wait:
                continue
            computing.add(key)
            if request.row < 0:
                self._give_row(request, source, start, plan)
            plan.requests.append(request)
        return plan

    def hold(self, row: int, tokens: list[int]) -> None:
        """Record that these tokens were appended to the row."""
        start = self.length[row]
        self.ids[row, start : start + len(tokens)] = tokens
        self.length[row] = start + len(tokens)

    def release(self, request: Request) -> None:
        """Free the row of a request that ended; its tokens stay until another request needs it."""
        self._clock += 1
        self._last_used[request.row] = self._clock
        self.requests[request.row] = None
        request.row = -1

    def clear(self) -> None:
        """Drop all rows and start with a few empty ones."""
        self.ids = np.zeros((0, 0), np.int32)
        self.length = np.zeros(0, np.int64)
        self.requests = []
        self._owners = []
        self._last_used = []
        self._clock = 0
        self._resize(min(8, self._max_rows), min(256, self._max_columns))

    def pack(self) -> tuple[list[int], list[int]]:
        """Move the rows in use to the front, so that the model can read them in place.

        Returns:
            The rows that move, and the rows to which their contents go.
        """
        used = [row for row, request in enumerate(self.requests) if request is not None]
        strays = [row for row in used if row >= len(used)]
        holes = [row for row in range(len(used)) if self.requests[row] is None]
        sources, targets = strays + holes, holes + strays
        if sources:
            self.ids[targets] = self.ids[sources]
            self.length[targets] = self.length[sources]
            _move(self.requests, sources, targets)
            _move(self._owners, sources, targets)
            _move(self._last_used, sources, targets)
            for row, request in enumerate(self.requests[: len(used)]):
                assert request is not None
                request.row = row
        return sources, targets

    def _shared_prefix(self, ids: list[int]) -> np.ndarray:
        """[rows]: how many first tokens of `ids` each row holds; never the last token.

        The last token is always computed, because its logits are needed.
        """
        head = np.asarray(ids[:-1], np.int32)
        differs = np.ones((len(self.ids), len(ids)), bool)  # the last column always differs
        np.not_equal(self.ids[:, : len(head)], head, out=differs[:, :-1])
        shared: np.ndarray = np.minimum(differs.argmax(1), self.length)
        if self._whole_rows:
            shared[shared < self.length] = 0
        return shared

    def _give_row(self, request: Request, source: int, start: int, plan: PrefillPlan) -> None:
        row = source if self._may_take_over(source, start, request) else self._free_row()
        if row != source and start:
            plan.copies[row] = plan.copies.get(source, source)
            plan.num_copied = max(plan.num_copied, start)
        self.length[row] = 0
        self.hold(row, request.ids[:start])
        self.requests[row] = request
        self._owners[row] = request.session
        request.row = row

    def _may_take_over(self, row: int, start: int, request: Request) -> bool:
        """Whether the request may continue in this row instead of a copy of it.

        At least half of the row's tokens must be part of the request. Otherwise the row probably
        belongs to another agent of the session, which will need it again.
        """
        is_free = not self._is_kept(row) or self._owners[row] == request.session
        return self.requests[row] is None and is_free and 0 < self.length[row] <= 2 * start

    def _is_kept(self, row: int) -> bool:
        """Whether the session of the row may still make requests."""
        return self._owners[row] in self._sessions

    def _free_row(self) -> int:
        """An idle row: one of a closed session, or a new one, or the least recently used one."""

        def price(row: int) -> tuple[bool, int]:
            return self._is_kept(row), self._last_used[row]

        idle = [row for row, request in enumerate(self.requests) if request is None]
        best = min(idle, key=price, default=None)
        rows, columns = self.shape
        if (best is None or self._is_kept(best)) and rows < self._max_rows:
            self._resize(min(2 * rows, self._max_rows), columns)
            return rows
        assert best is not None, "the schedule admitted more requests than there are rows"
        return best

    def _resize(self, rows: int, columns: int) -> None:
        ids = np.zeros((rows, columns), np.int32)
        ids[: self.ids.shape[0], : self.ids.shape[1]] = self.ids
        new = rows - len(self.requests)
        self.ids, self.length = ids, np.concatenate([self.length, np.zeros(new, np.int64)])
        self.requests += [None] * new
        self._owners += [""] * new
        self._last_used += [0] * new


def _move(values: list[T], sources: list[int], targets: list[int]) -> None:
    moved = [values[row] for row in sources]
    for row, value in zip(targets, moved, strict=True):
        values[row] = value
