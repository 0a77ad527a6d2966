"""When the embedded engine lets requests in.

1. Continuous: whatever waits, as far as there is room.
2. Lockstep: the running ones go on alone until half of them are left; then nothing moves until
   every announced session is inside; then those that wait join by session id, whatever their order
   of arrival.
3. What an earlier round had no room for goes first.
4. A session that stays away beyond the patience is not waited for, once, and counted.
"""

from __future__ import annotations

import itertools

import pytest

from ajet.engine.embedded import schedule as schedule_module
from ajet.engine.embedded.schedule import ContinuousSchedule, LockstepSchedule, Request, uniforms
from ajet.schema.episode import SamplingParams

pytestmark = pytest.mark.filterwarnings("error")


def request_of(session: str) -> Request:
    return Request(session=session, params=SamplingParams(max_tokens=5), ids=[1, 2], max_new=5)


def submit(schedule: ContinuousSchedule, *sessions: str) -> list[Request]:
    requests = [request_of(session) for session in sessions]
    for request in requests:
        schedule.submit(request)
    return requests


def names(requests: list[Request] | None) -> str | None:
    return None if requests is None else "".join(request.session for request in requests)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """[seconds] that the schedule's clock shows."""
    shown = [0.0]
    monkeypatch.setattr(schedule_module.time, "monotonic", lambda: shown[0])
    return shown


def test_continuous_admits_in_order_of_arrival_while_there_is_room() -> None:
    schedule = ContinuousSchedule(max_num_seqs=3)
    schedule.open("nobody waits for this one")
    assert schedule.admit([]) is None
    submit(schedule, "b", "a", "c")
    assert names(schedule.admit(submit(ContinuousSchedule(1), "x"))) == "ba"
    assert names(schedule.admit([])) == "c"


@pytest.mark.parametrize("arrival", list(itertools.permutations("abc")))
def test_lockstep_waits_for_all_and_orders_by_session(arrival: tuple[str, ...]) -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    for name in "cab":
        schedule.open(name)
    for name in arrival:
        assert schedule.admit([]) is None
        submit(schedule, name)
    assert names(schedule.admit([])) == "abc"


def test_lockstep_runs_alone_until_half_are_left_and_then_stands_still() -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    for name in "abcd":
        schedule.open(name)
    running = submit(schedule, *"abcd")
    assert schedule.admit([]) == running
    schedule.leave([running.pop()])
    submit(schedule, "d")
    assert schedule.admit(running) == [], "three of four still run: d has to wait"
    schedule.leave([running.pop()])
    assert schedule.admit(running) is None, "c may still ask, before d or after"
    submit(schedule, "c")
    assert names(schedule.admit(running)) == "cd"


def test_lockstep_does_not_wait_for_a_closed_session() -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    for name in "ab":
        schedule.open(name)
    submit(schedule, "b")
    assert schedule.admit([]) is None
    schedule.close("a")
    assert names(schedule.admit([])) == "b"


def test_lockstep_does_not_wait_for_a_session_that_nobody_announced() -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    first = submit(schedule, "a")
    assert schedule.admit([]) == first
    schedule.leave(first)
    submit(schedule, "b")
    assert names(schedule.admit([])) == "b"


def test_what_had_no_room_goes_first_in_the_next_round() -> None:
    schedule = LockstepSchedule(max_num_seqs=2, patience_s=30)
    for name in "abc":
        schedule.open(name)
    submit(schedule, *"cba")
    running = schedule.admit([])
    assert names(running) == "ab"
    schedule.leave(running or [])
    submit(schedule, *"ba")
    assert names(schedule.admit([])) == "ca"


def test_patience_ends_once_and_is_counted(now: list[float]) -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    for name in "ab":
        schedule.open(name)
    submit(schedule, "a")
    now[0] = 29.0
    assert schedule.admit([]) is None
    assert schedule.wake_s() == 1.0
    now[0] = 30.0
    running = schedule.admit([])
    assert names(running) == "a"
    assert schedule.num_missed == 1
    schedule.leave(running or [])
    submit(schedule, "a")
    assert names(schedule.admit([])) == "a", "b is not waited for until it is back"
    assert schedule.num_missed == 1


def test_a_run_warns_once_of_sessions_that_stay_away(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    for number in range(20):
        schedule.open(f"session {number}")
        now[0] += 30.0
        schedule.admit([])
    assert schedule.num_missed == 20
    (warning,) = caplog.records
    assert "lockstep_missed" in warning.getMessage()


def test_a_missed_session_is_waited_for_again_once_it_is_back(now: list[float]) -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    schedule.open("a")
    now[0] = 30.0
    assert schedule.admit([]) is None
    assert schedule.num_missed == 1
    back = submit(schedule, "a")
    assert schedule.admit([]) == back
    schedule.leave(back)
    submit(schedule, "not announced")
    assert schedule.admit([]) is None


def test_patience_is_counted_from_the_last_answer(now: list[float]) -> None:
    schedule = LockstepSchedule(max_num_seqs=8, patience_s=30)
    schedule.open("a")
    running = submit(schedule, "a")
    assert schedule.admit([]) == running
    now[0] = 100.0
    schedule.leave(running)
    submit(schedule, "b")
    assert schedule.admit([]) is None
    assert schedule.wake_s() == 30.0


def test_a_cancelled_request_no_longer_waits() -> None:
    schedule = ContinuousSchedule(max_num_seqs=8)
    first, _ = submit(schedule, "a", "b")
    schedule.leave([first])
    assert names(schedule.admit([])) == "b"


def test_calls_of_a_session_are_numbered_until_it_closes() -> None:
    schedule = ContinuousSchedule(max_num_seqs=8)
    requests = submit(schedule, "a", "b", "a")
    schedule.close("a")
    requests += submit(schedule, "a")
    assert [request.call_index for request in requests] == [0, 0, 1, 0]


def test_randomness_depends_on_the_seed_or_else_on_session_and_call() -> None:
    def drawn(session: str, call_index: int, seed: int | None, engine_seed: int) -> list[float]:
        request = request_of(session)
        request.params = SamplingParams(max_tokens=5, seed=seed)
        request.call_index = call_index
        request.draw(engine_seed)
        return request.uniforms.tolist()

    assert drawn("a", 0, 7, 0) == drawn("b", 3, 7, 1)
    assert drawn("a", 0, None, 0) == drawn("a", 0, None, 0)
    different = [drawn("a", 0, None, 0), drawn("a", 1, None, 0), drawn("b", 0, None, 0)]
    different += [drawn("a", 0, None, 1), drawn("a", 0, 0, 0), drawn("a", 0, -1, 0)]
    assert len({tuple(values) for values in different}) == len(different)


def test_uniforms_are_uniform_and_a_shorter_draw_is_the_start_of_a_longer_one() -> None:
    values = uniforms("any name", 10_000)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.02
    assert (uniforms("any name", 10) == values[:10]).all()
