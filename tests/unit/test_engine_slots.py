"""Rows of the slot cache: who gets which, and what need not be computed again.

1. A request starts from the longest prefix that any row holds; the last token is always computed.
2. A session's next call goes on in its own row; another agent's row is copied from, not taken.
3. Where several need the same tokens, one computes them and the others wait for the copy.
4. Rows are reused in the order: never used, of closed sessions, least recently used; never a
   row in use.
5. Whatever the requests, what a plan says is there is there (checked by simulating the copies).
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ajet.engine.embedded.batch import MIN_SHARED, PrefillPlan, SlotTable
from ajet.engine.embedded.schedule import Request
from ajet.schema.episode import SamplingParams

pytestmark = pytest.mark.filterwarnings("error")

PREAMBLE = list(range(100, 140))


class Cache:
    """Stands for the key-values: which token each cell was computed from."""

    def __init__(self, max_rows: int = 8, sessions: tuple[str, ...] = ("a", "b", "c")) -> None:
        self.sessions = set(sessions)
        self.slots = SlotTable(max_rows, 512, self.sessions)
        self.cells = np.full((max_rows, 512), -1)
        self.computed = 0

    def plan(self, line: list[Request]) -> PrefillPlan:
        plan = self.slots.plan(line)
        before = self.cells.copy()
        for target, source in plan.copies.items():
            self.cells[target, : plan.num_copied] = before[source, : plan.num_copied]
        self.check()
        return plan

    def compute(self, requests: list[Request], chunk: int = 512) -> None:
        for request in requests:
            start = int(self.slots.length[request.row])
            tokens = request.ids[start : start + chunk]
            self.cells[request.row, start : start + len(tokens)] = tokens
            self.slots.hold(request.row, tokens)
            self.computed += len(tokens)
        self.check()

    def prefill(self, *line: Request) -> None:
        left = list(line)
        while left:
            self.compute(self.plan(left).requests)
            left = [r for r in left if r.row < 0 or self.slots.length[r.row] < len(r.ids)]

    def check(self) -> None:
        for row, length in enumerate(self.slots.length):
            assert (self.cells[row, :length] == self.slots.ids[row, :length]).all()
        for row, request in enumerate(self.slots.requests):
            if request is not None:
                assert request.row == row
                held = self.slots.ids[row, : self.slots.length[row]].tolist()
                assert held == request.ids[: len(held)]


def request_of(session: str, ids: list[int]) -> Request:
    return Request(session=session, params=SamplingParams(max_tokens=5), ids=ids, max_new=5)


def test_the_next_call_goes_on_in_the_same_row_and_computes_only_what_is_new() -> None:
    cache = Cache()
    first = request_of("a", PREAMBLE)
    cache.prefill(first)
    row = first.row
    cache.slots.release(first)
    second = request_of("a", [*PREAMBLE, 1, 2, 3])
    cache.prefill(second)
    assert second.row == row
    assert cache.computed == len(PREAMBLE) + 3


def test_the_last_token_is_computed_even_if_it_is_there() -> None:
    cache = Cache()
    first = request_of("a", PREAMBLE)
    cache.prefill(first)
    cache.slots.release(first)
    cache.prefill(request_of("a", PREAMBLE))
    assert cache.computed == len(PREAMBLE) + 1


def test_a_row_in_use_or_of_an_open_session_is_copied_from() -> None:
    cache = Cache()
    running, idle = request_of("a", [*PREAMBLE, 1]), request_of("b", [*PREAMBLE, 2])
    cache.prefill(running, idle)
    cache.slots.release(idle)
    computed = cache.computed
    third = request_of("c", [*PREAMBLE, 2, 3])
    cache.prefill(third)
    assert len({running.row, third.row}) == 2
    assert cache.computed == computed + 1
    assert cache.slots.length.max() == len(third.ids), "the idle row is still there as well"
    assert (cache.slots.length >= len(PREAMBLE)).sum() == 3


def test_another_agent_of_the_session_keeps_its_row() -> None:
    cache = Cache(sessions=("a",))
    long = PREAMBLE + [1] * 100
    first = request_of("a", long)
    cache.prefill(first)
    cache.slots.release(first)
    cache.prefill(request_of("a", [*PREAMBLE, 2]))
    back = request_of("a", [*long, 3])
    computed = cache.computed
    cache.prefill(back)
    assert cache.computed == computed + 1


def test_a_common_prefix_is_computed_once_and_copied() -> None:
    cache = Cache()
    group = [request_of("abc"[i % 3], [*PREAMBLE, 7, 7]) for i in range(4)]
    other = request_of("a", [*PREAMBLE, 8, 8, 8])
    cache.prefill(*group, other)
    assert cache.computed == len(PREAMBLE) + 2 + 3 * 1 + 3


def test_a_short_common_prefix_is_not_waited_for() -> None:
    cache = Cache()
    line = [request_of("a", PREAMBLE[: MIN_SHARED - 1] + [i] * 30) for i in range(3)]
    assert cache.plan(line).requests == line


def test_a_chunked_prompt_keeps_its_followers_waiting_until_it_is_computed() -> None:
    cache = Cache()
    prompt = list(range(200))
    leader, follower = request_of("a", prompt), request_of("b", [*prompt, 1])
    for _ in range(4):
        plan = cache.plan([leader, follower])
        assert plan.requests == [leader]
        cache.compute(plan.requests, chunk=50)
    assert cache.plan([follower]).copies == {follower.row: leader.row}


def test_rows_of_closed_sessions_go_first_then_the_least_recently_used() -> None:
    cache = Cache(max_rows=3)
    requests = [request_of(name, [i] * 30) for i, name in enumerate("abc", start=1)]
    cache.prefill(*requests)
    rows = {request.session: request.row for request in requests}
    for request in (requests[1], requests[0], requests[2]):
        cache.slots.release(request)
    cache.sessions.discard("c")
    late = [request_of("d", [i] * 30) for i in range(11, 14)]
    cache.prefill(*late)
    assert [request.row for request in late] == [rows["c"], rows["b"], rows["a"]]


def test_packing_moves_the_rows_in_use_to_the_front() -> None:
    cache = Cache(max_rows=8)
    requests = [request_of("a", [i] * 30) for i in range(1, 7)]
    cache.prefill(*requests)
    for index in (0, 2, 3):
        cache.slots.release(requests[index])
    sources, targets = cache.slots.pack()
    cache.cells[targets] = cache.cells[sources]
    cache.check()
    assert sorted(requests[index].row for index in (1, 4, 5)) == [0, 1, 2]
    assert sorted(cache.slots.length.tolist()) == [0, 0] + [30] * 6, "idle rows are kept"
    assert cache.slots.pack() == ([], [])


def test_clearing_leaves_nothing_of_the_past() -> None:
    cache = Cache(max_rows=32)
    used = [request_of("a", [i] * 300) for i in range(20)]
    cache.prefill(*used)
    for request in used:
        cache.slots.release(request)
    cache.slots.clear()
    fresh = SlotTable(32, 512, cache.sessions)
    assert cache.slots.shape == fresh.shape
    for slots in (cache.slots, fresh):
        slots.plan([request_of("b", [3] * 20), request_of("c", [5] * 20)])
    assert cache.slots.requests[0] and fresh.requests[0]
    assert (cache.slots.ids == fresh.ids).all()


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.lists(st.sampled_from([[1] * 20, [2] * 20, [3], [4, 5]]), min_size=1, max_size=5),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(1, 5),
)
def test_what_a_plan_says_is_there_is_there(
    calls: list[tuple[str, list[list[int]], bool]], max_rows: int
) -> None:
    cache = Cache(max_rows=max_rows, sessions=("a", "b", "c"))
    waiting: list[Request] = []
    for session, pieces, runs in calls:
        waiting.append(request_of(session, [token for piece in pieces for token in piece]))
        if not runs and len(waiting) < max_rows:
            continue
        cache.prefill(*waiting)
        for request in waiting[::2]:
            cache.slots.release(request)
        sources, targets = cache.slots.pack()
        cache.cells[targets] = cache.cells[sources]
        cache.check()
        for request in waiting[1::2]:
            cache.slots.release(request)
        waiting = []
