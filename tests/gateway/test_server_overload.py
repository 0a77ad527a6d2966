"""More requests than there are places: some wait, the others get a 429 with `Retry-After`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.server_fakes import (
    HeldEngine,
    ask,
    connect,
    eventually,
    receive_answer,
    request_of,
    serving,
    status_of,
)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(40) as pool:
        yield pool


def test_so_many_work_so_many_wait_and_the_rest_are_told_when_to_come_back(pool):
    with serving(HeldEngine(), max_concurrent_requests=3, max_queued_requests=4) as served:
        tuner, endpoint = served.episode()
        answers = [pool.submit(ask, endpoint) for _ in range(20)]
        assert eventually(lambda: sum(answer.done() for answer in answers) == 13)
        assert eventually(lambda: served.engine.num_running == 3)
        served.engine.release.set()
        answers = [answer.result() for answer in answers]
        assert served.engine.most_running <= 3
        assert ask(endpoint).status_code == 200, "afterwards there is place again"
    refused = [answer for answer in answers if answer.status_code != 200]
    assert [answer.status_code for answer in refused] == [429] * 13
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert len(tuner.get_context_tracker().calls) == 8


def test_nobody_waits_for_ever(pool):
    limits = {"max_concurrent_requests": 1, "max_queued_requests": 5, "queue_timeout_s": 0.2}
    with serving(HeldEngine(), **limits) as served:
        tuner, endpoint = served.episode()
        first = pool.submit(ask, endpoint)
        assert eventually(lambda: served.engine.num_running == 1)
        waited = ask(endpoint)
        assert (waited.status_code, waited.headers["retry-after"]) == (429, "1")
        served.engine.release.set()
        assert first.result().status_code == 200
    assert len(tuner.get_context_tracker().calls) == 1


def test_who_came_first_is_served_first(pool):
    with serving(HeldEngine(), max_concurrent_requests=1) as served:
        tuners = []
        answers = []
        for number in range(6):
            tuner, endpoint = served.episode(f"episode {number}")
            tuners.append(tuner)
            answers.append(pool.submit(ask, endpoint))
            assert eventually(lambda: served.engine.sessions)
            # Before its body has arrived, a request is present, but has no place in the queue.
            assert eventually(lambda n=number: served.num_queued == n)
        served.engine.release.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert served.engine.sessions == [f"episode {number}" for number in range(6)]


def test_who_leaves_the_queue_is_not_worked_for_and_makes_room():
    with serving(HeldEngine(), max_concurrent_requests=1, max_queued_requests=1) as served:
        (_, working), (_, leaving), (_, last) = (served.episode(name) for name in "abc")
        with connect(working) as first:
            first.sendall(request_of(working))
            assert eventually(lambda: served.engine.num_running == 1)
            with connect(leaving) as second:
                second.sendall(request_of(leaving))
                assert eventually(lambda: served.num_present == 2)
                assert ask(last).status_code == 429
            assert eventually(lambda: served.num_present == 1)
            with connect(last) as third:
                third.sendall(request_of(last))
                assert eventually(lambda: served.num_present == 2)
                served.engine.release.set()
                assert status_of(receive_answer(third)) == 200
            assert status_of(receive_answer(first)) == 200
    assert served.engine.sessions == ["a", "c"]


def test_who_is_turned_away_takes_no_memory():
    """Its body is not read: it is refused by its head."""
    with serving(HeldEngine(), max_concurrent_requests=1, max_queued_requests=1) as served:
        _, endpoint = served.episode()
        with connect(endpoint) as first, connect(endpoint) as second, connect(endpoint) as third:
            first.sendall(request_of(endpoint))
            second.sendall(request_of(endpoint))
            assert eventually(lambda: served.num_present == 2)
            third.sendall(request_of(endpoint)[:-10])
            assert status_of(receive_answer(third)) == 429
            served.engine.release.set()
            assert status_of(receive_answer(first)) == status_of(receive_answer(second)) == 200
