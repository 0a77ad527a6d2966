"""Which request and session use which cache row, and whose tokens each row holds.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ajet.engine.embedded.schedule import Request

T = TypeVar("T")

MIN_SHARED = 16
"""Shortest common prefix worth waiting for, in tokens; a shorter one is computed twice."""


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
