"""Who owns which row of the cache, and the tokens whose key-values it holds. Torch-free."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from ajet.engine.embedded.request import Request

T = TypeVar("T")

MIN_SHARED = 16
"""A common prefix shorter than this is cheaper to compute again than to wait for."""


@dataclass(slots=True, kw_only=True)
class PrefillPlan:
    """What one pass over the requests that wait for their prompts' key-values computes."""

    requests: list[Request] = field(default_factory=list)
    """Each has a row, whose `SlotTable.length` is where its prefill starts."""
    copies: dict[int, int] = field(default_factory=dict)
    """From row to the row whose first `num_copied` tokens it takes over, all at once."""
    num_copied: int = 0


class SlotTable:
    """Rows that requests run in, and that keep an episode's tokens from call to call.

    A finished request leaves its tokens in its row. The next one starts from the row with the
    longest common prefix: in that row, if it is idle and of the same session (or of a closed
    one); otherwise in another row, into which the prefix is copied.

    Args:
        max_rows: rows there may be.
        max_columns: tokens that a row may hold.
        sessions: names of the sessions that may still make requests; looked at, not copied.
    """

    def __init__(self, max_rows: int, max_columns: int, sessions: Container[str]) -> None:
        self._max_rows = max_rows
        self._max_columns = max_columns
        self._sessions = sessions
        self.ids: np.ndarray
        """[rows, columns] int32: tokens, as far as `length` says."""
        self.length: np.ndarray
        """[rows] int64: tokens whose key-values are in the cache."""
        self.requests: list[Request | None]
        """Whom each row serves now."""
        self._owners: list[str]  # sessions that last used the rows
        self._last_used: list[int]
        self.clear()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that there are by now; the cache follows."""
        return self.ids.shape[0], self.ids.shape[1]

    def reach(self, num_tokens: int) -> None:
        """Make the rows long enough for a sequence of this length."""
        rows, columns = self.shape
        if num_tokens > columns:
            self._resize(rows, min(max(num_tokens, 2 * columns), self._max_columns))

    def plan(self, line: list[Request]) -> PrefillPlan:
        """Give rows to the requests that can start, taking over what is computed already.

        Where several need the same tokens computed, the first does it and the others stay behind,
        to copy them in the next pass: an agent's preamble and a group's common prompt are
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
            # Two that share more than is there have the same `start`, hence the same key.
            key = tuple(request.ids[: start + MIN_SHARED])
            if key in computing and len(request.ids) > start + MIN_SHARED:
                continue
            computing.add(key)
            if request.row < 0:
                self._give_row(request, source, start, plan)
            plan.requests.append(request)
        return plan

    def hold(self, row: int, tokens: list[int]) -> None:
        """Note that the row's key-values now go on with these tokens."""
        start = self.length[row]
        self.ids[row, start : start + len(tokens)] = tokens
        self.length[row] = start + len(tokens)

    def release(self, request: Request) -> None:
        """The request is over; its row keeps what it holds until someone needs the row."""
        self._clock += 1
        self._last_used[request.row] = self._clock
        self.requests[request.row] = None
        request.row = -1

    def clear(self) -> None:
        """Start again with few and empty rows."""
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
            Rows, and the rows that their contents go to.
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
        """[rows]: how many first tokens of `ids` a row has; the last is always left to compute."""
        head = np.asarray(ids[:-1], np.int32)
        differs = np.ones((len(self.ids), len(ids)), bool)  # the last column always does
        np.not_equal(self.ids[:, : len(head)], head, out=differs[:, :-1])
        shared: np.ndarray = np.minimum(differs.argmax(1), self.length)
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
        """Half of what it holds must be of use, or another agent of the session still needs it."""
        is_free = not self._is_kept(row) or self._owners[row] == request.session
        return self.requests[row] is None and is_free and 0 < self.length[row] <= 2 * start

    def _is_kept(self, row: int) -> bool:
        """Its session may come back for it."""
        return self._owners[row] in self._sessions

    def _free_row(self) -> int:
        """An idle row: of a closed session, else a new one, else the least recently used."""

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
