"""An environment service that fails makes failed episodes, and nothing else.

1. An episode has the instance's messages and its rewards; the instance is released after it.
2. Each fault of a service is an `environment_error` with its cause: never a reward.
3. A workflow that hides the fault fails all the same.
4. Transport faults are tried again where nothing can be done twice; an answer of 500 is not.
5. Whatever happens, no instance stays open: after an exception, at a deadline, at Ctrl-C.
"""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from ajet.environment.client import EnvironmentClient
from ajet.environment.left_open import left_open
from ajet.errors import EnvironmentFault
from ajet.service.probes import free_ports
from ajet.task_judge.env_service_as_judge import EnvServiceJudge
from ajet.task_rollout import workers
from tests.environment.running_service import (
    Counting,
    Running,
    Workflow,
    episodes_on,
    rollout_on,
    running,
    source_of,
)
from tests.processes.service_processes import eventually


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "open"


@pytest.fixture(scope="module")
def service(gate: Path) -> Iterator[Running]:
    with running(env={"GATE": str(gate)}) as started:
        yield started


@pytest.fixture
def held(service: Running, gate: Path) -> Iterator[None]:
    """The second step of the tasks `held-...` does not return before the end of the test."""
    yield
    gate.touch()
    assert eventually(lambda: service.num_open() == 0)
    gate.unlink()


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), thread


def failures_of(episodes: list[Any]) -> list[str]:
    assert all(episode.reward is None and not episode.samples for episode in episodes)
    assert {episode.failure.kind for episode in episodes} == {"environment_error"}
    return [episode.failure.message for episode in episodes]


def test_an_episode_acts_on_an_instance_of_its_own(service: Running) -> None:
    class Looking(Counting):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            assert service.num_open() == 1
            task = workflow_task.task
            assert [message["role"] for message in task.init_messages] == ["system", "user"]
            assert task.main_query == "Count to 3."
            action = {"role": "assistant", "content": "first"}
            observation, reward, is_over, info = workflow_task.gym_env.step(action)
            assert (observation, reward, is_over) == ("first: 1", 0.5, False)
            assert (info["count"], info["instance_id"]) == (1, workflow_task.episode_uuid)
            assert await workflow_task.gym_env.step_async(action) == (
                *("first: 2", 0.5, False),
                {**info, "count": 2},
            )
            score = workflow_task.gym_env.evaluate(workflow_task.episode_uuid, {"sparse": False})
            assert score == pytest.approx(2 / 3)
            return WorkflowOutput(reward=1.0)

    [episode] = episodes_on(source_of(service.url), ["3"], Looking)
    assert episode.failure is None, episode.failure
    assert service.num_open() == 0


def test_many_episodes_get_their_rewards_and_leave_nothing(service: Running) -> None:
    tasks = [f"{prefix}-{goal}" for prefix in ("a", "b", "c") for goal in range(1, 9)]
    episodes = episodes_on(source_of(service.url), tasks)
    assert [episode.reward for episode in episodes] == [0.5 * goal for goal in range(1, 9)] * 3
    assert service.num_open() == 0


def test_the_judge_asks_the_environment(service: Running) -> None:
    class Stopping(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            for _ in range(2):
                workflow_task.gym_env.step({"role": "assistant", "content": "next"})
            return WorkflowOutput()

    episodes = episodes_on(source_of(service.url), ["2", "4"], Stopping, EnvServiceJudge(None))
    assert [(episode.reward, episode.is_success) for episode in episodes] == [
        (1.5, True),
        (0.25, False),
    ]
    assert episodes[1].metadata == {"environment_score": 0.5}
    assert service.num_open() == 0


def test_a_service_that_is_not_there_is_a_failed_episode() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    source = source_of(url, max_tries=2, release_timeout_s=1)
    [message] = failures_of(episodes_on(source, ["3"], max_retries=0))
    assert f"{url}/create: cannot connect" in message


@pytest.mark.parametrize(
    ("task_id", "words"),
    [
        ("error-3", "/step: the service answered 500"),
        ("error-3", "ZeroDivisionError: the world ended"),
        ("nan-3", "reward: got nan, expected a finite number"),
    ],
)
def test_a_fault_in_the_middle_is_a_failed_episode(
    service: Running, task_id: str, words: str
) -> None:
    [message] = failures_of(episodes_on(source_of(service.url), [task_id]))
    assert words in message
    assert eventually(lambda: service.num_open() == 0)


@pytest.mark.usefixtures("held")
def test_a_step_without_an_answer_is_a_failed_episode(service: Running) -> None:
    source = source_of(service.url, timeout_s=2)
    [message] = failures_of(episodes_on(source, ["held-3"], max_retries=0))
    assert "/step: no answer within 2 s" in message


def test_a_failed_environment_is_tried_again_like_a_failed_engine(service: Running) -> None:
    [episode] = episodes_on(source_of(service.url), ["error-3"], max_retries=2)
    assert episode.retries == 2
    failures_of([episode])


def test_a_service_that_dies_in_mid_episode_is_a_failed_episode(tmp_path: Path) -> None:
    have_begun, is_dead = threading.Barrier(2, timeout=60), threading.Event()

    class Both(Counting):
        """The task `3` is in the middle of its episode when the other one kills the service."""

        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            have_begun.wait()
            if workflow_task.task_id == "3":
                is_dead.wait(60)
            try:
                return await super().execute(workflow_task, tuner)
            finally:
                is_dead.set()

    with running() as dying:
        source = source_of(dying.url, max_tries=2, release_timeout_s=1, run_folder=tmp_path)
        messages = failures_of(episodes_on(source, ["die-3", "3"], Both, max_retries=0))
        assert all(f"{dying.url}/step: cannot connect" in message for message in messages)
    [(_, left)] = left_open(tmp_path)
    assert {instance.task_id for instance in left} == {"die-3", "3"}


def test_a_lost_instance_is_a_failed_episode(service: Running) -> None:
    class Losing(Counting):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            request = workflow_task.gym_env._request()
            client = EnvironmentClient(service.url)
            client.call("/release", request)
            client.close()
            return await super().execute(workflow_task, tuner)

    [message] = failures_of(episodes_on(source_of(service.url), ["3"], Losing))
    assert "there is no instance" in message
    assert service.num_open() == 0


@pytest.mark.parametrize("task_id", ["hang_release-2", "bad_release-2"])
def test_a_release_that_goes_wrong_costs_no_episode(task_id: str) -> None:
    with running() as stubborn:
        started = time.monotonic()
        source = source_of(stubborn.url, release_timeout_s=0.5)
        [episode] = episodes_on(source, [task_id])
        assert episode.reward == 1.0
        assert time.monotonic() - started < 60  # the release takes 600 s
        num_left = 1 if task_id.startswith("hang") else 0
        assert eventually(lambda: stubborn.num_open() == num_left)
        stubborn.process.kill()  # it would wait for the release


def test_a_workflow_cannot_hide_a_fault(service: Running) -> None:
    class Hiding(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            for _ in range(3):
                try:
                    workflow_task.gym_env.step({"role": "assistant", "content": "next"})
                except Exception:
                    return WorkflowOutput(reward=0.0)
            return WorkflowOutput(reward=1.0)

    [message] = failures_of(episodes_on(source_of(service.url), ["error-3"], Hiding))
    assert "ZeroDivisionError" in message


NONSENSE = {
    "text": b"<html>It works!</html>",
    "list": b"[1, 2]",
    "no data": b'{"state": {}}',
    "no state": b'{"data": {"reward": 0}}',
    "no message": b'{"data": {"state": {"role": "user"}, "reward": 0}}',
    "a failure": b'{"success": false, "data": {"state": {"content": "x"}}}',
    "an error": b'{"data": {"state": {"error": "no such world"}}}',
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_a_failed_episode(answer: bytes) -> None:
    with answering(answer) as (url, _):
        [message] = failures_of(episodes_on(source_of(url), ["3"], max_retries=0))
        assert "/create" in message


STEP = b'{"data": {"state": {"content": "x"}, "is_terminated": true, "reward": %s}}'


@pytest.mark.parametrize("reward", [b"null", b'"1"', b"NaN", b"true"])
def test_a_step_without_a_reward_is_not_a_reward_of_0(reward: bytes) -> None:
    with answering(STEP % reward) as (url, _):
        [message] = failures_of(episodes_on(source_of(url), ["3"], max_retries=0))
        assert "/step: data.reward: got" in message


@contextmanager
def answering(
    answer: bytes, status: int = 200, location: str | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A server that gives every call the same answer; and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            if location:
                self.send_header("location", location)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_redirect_that_loses_the_body_is_named() -> None:
    with answering(b'{"data": []}') as (there, paths):
        with answering(b"", 301, location=f"{there}/elsewhere") as (url, _):
            [message] = failures_of(episodes_on(source_of(url), ["3"], max_retries=0))
        assert f"the service redirects to {there}/elsewhere: set that address" in message
        assert not paths, "a GET is no call of the protocol"


def test_an_answer_of_500_is_final_and_a_busy_service_is_asked_again() -> None:
    with answering(b"sorry", 500) as (url, paths):
        failures_of(episodes_on(source_of(url), ["3"], max_retries=0))
        assert paths.count("/create") == 1
    with answering(b"later", 503) as (url, paths):
        source = source_of(url, timeout_s=3, release_timeout_s=1)
        [message] = failures_of(episodes_on(source, ["3"], max_retries=0))
        assert "no answer within 3 s" in message
        assert paths.count("/create") > 2


def test_twenty_percent_of_calls_fail_and_the_counts_are_right() -> None:
    """A step is never made twice, so every reward is exact; all others are failed episodes."""
    goals = [1 + number % 6 for number in range(120)]
    tasks = [f"{number}-{goal}" for number, goal in enumerate(goals)]
    with running("--share", "0.2", script="unreliable_service.py") as service:
        episodes = episodes_on(source_of(service.url), tasks, max_retries=1)
        assert len(episodes) == 120
        done = [(e, goal) for e, goal in zip(episodes, goals, strict=True) if e.failure is None]
        assert [episode.reward for episode, _ in done] == [0.5 * goal for _, goal in done]
        failures_of([episode for episode in episodes if episode.failure is not None])
        assert 40 < len(done) < 120
        assert any(episode.retries for episode in episodes)
        assert service.num_open() == 0


# The end.


def test_an_exception_of_the_workflow_releases_the_instance(service: Running) -> None:
    class Raising(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            raise KeyError("plan")

    [episode] = episodes_on(source_of(service.url), ["3"], Raising)
    assert episode.failure is not None
    assert episode.failure.kind == "workflow_error"
    assert service.num_open() == 0


@pytest.mark.usefixtures("held")
def test_a_deadline_ends_a_step_that_blocks(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    [episode] = episodes_on(source_of(service.url), ["held-3"], episode_timeout_s=2)
    assert episode.failure is not None
    assert episode.failure.kind == "timeout"
    assert "abandoned" not in caplog.text, "the thread was freed, although the step blocks"


def test_a_thread_that_is_given_up_does_not_keep_its_instance(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE_S", 0.2)
    woken = threading.Event()

    class Blocking(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            woken.wait(60)
            return WorkflowOutput(reward=1.0)

    [episode] = episodes_on(source_of(service.url), ["3"], Blocking, episode_timeout_s=0.3)
    assert episode.failure is not None
    assert episode.failure.kind == "timeout"
    assert eventually(lambda: service.num_open() == 0)
    woken.set()


@pytest.mark.usefixtures("held")
def test_an_interrupt_releases_every_instance(
    service: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Waiting(Counting):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            if workflow_task.task_id != "1":
                workflow_task.gym_env.step({"role": "assistant", "content": "next"})
                workflow_task.gym_env.step({"role": "assistant", "content": "next"})  # blocks
            return await super().execute(workflow_task, tuner)

    def interrupt(episode: Any) -> None:
        assert eventually(lambda: service.num_open() >= 4)
        raise KeyboardInterrupt

    tasks = ["1", "held-2", "held-3", "held-4", "held-5"]
    source = source_of(service.url, run_folder=tmp_path)
    rollout = rollout_on(source, Waiting)
    from ajet import Task

    with pytest.raises(KeyboardInterrupt):
        rollout.run(
            [Task(task_id=task_id) for task_id in tasks],
            num_repeat=1,
            tag="x",
            on_episode_done=interrupt,
        )
    assert "does not end" not in caplog.text, "every thread was freed, although the steps block"
    assert list(left_open(tmp_path)) == []


def test_blocking_steps_stall_nobody(service: Running) -> None:
    class Napping(Workflow):
        async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
            for _ in range(2):
                workflow_task.gym_env.step({"role": "assistant", "content": "next"})
            return WorkflowOutput(reward=1.0)

    started = time.monotonic()
    episodes = episodes_on(
        source_of(service.url), [f"slow-{goal}" for goal in range(10, 26)], Napping
    )
    assert all(episode.reward == 1.0 for episode in episodes)
    assert time.monotonic() - started < 30  # one after the other they take 48 s


def test_a_client_says_what_is_wrong_with_an_address() -> None:
    client = EnvironmentClient("http://127.0.0.1:1", max_tries=1)
    try:
        from ajet.environment.protocol import ServiceRequest

        with pytest.raises(EnvironmentFault, match="http://127.0.0.1:1/create: cannot connect"):
            client.call("/create", ServiceRequest())
    finally:
        client.close()
