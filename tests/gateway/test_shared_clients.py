"""Clients that many episodes share, each of which has a thread and an event loop of its own.

1. Sixty-four threads that come first together get one background loop.
2. Sixty-four episodes ask a debug model at once, and all of them work.
3. A judge that makes its client in `__init__` works in every step, with sixty-four workers.
4. A judge's transport errors are tried again, its other errors are not; a debug model's, too.
5. A judge that blocks its loop is named in a warning, and an exit that it asks for ends its
   episode, not the loop.
6. A forked child gets a loop of its own.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.background_loop import BackgroundLoop
from ajet.schema.episode import Episode
from ajet.schema.task import Task, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner import judging
from ajet.task_runner.episode_run import EpisodeRunner
from ajet.task_runner.judging import ask_judge
from tests.gateway.gateway_fakes import HELLO
from tests.gateway.openai_server import Server
from tests.gateway.server_fakes import eventually
from tests.unit.episode_fakes import ask, runner_of, tasks_of

WORKERS = 64


def episodes_of(runner: EpisodeRunner, num_steps: int = 1) -> list[Episode]:
    """All episodes of some steps of 64."""
    rollout = Rollout(runner=runner, seed=0, max_env_worker=WORKERS, max_failure_share=1.0)
    return [
        episode
        for step in range(num_steps)
        for group in rollout.run(tasks_of(8), num_repeat=8, tag=str(step))
        for episode in group.episodes
    ]


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class Asks(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        return WorkflowOutput()


def judged(judge: BaseJudge, max_retries: int = 0) -> Any:
    task = WorkflowTask(task=Task(main_query="q", task_id="a"), task_id="a", episode_uuid="e")
    return asyncio.run(ask_judge(judge, task, WorkflowOutput(), max_retries=max_retries))


# 1


def test_threads_that_come_first_together_get_one_loop() -> None:
    background = BackgroundLoop("test-loop")
    barrier = threading.Barrier(WORKERS)

    def first() -> asyncio.AbstractEventLoop:
        barrier.wait()
        return background.start(running_loop()).result()

    with ThreadPoolExecutor(WORKERS) as pool:
        loops = [future.result() for future in [pool.submit(first) for _ in range(WORKERS)]]
    assert len({id(loop) for loop in loops}) == 1


# 2


def test_a_debug_model_answers_sixty_four_episodes_at_once(server: Server) -> None:
    class Debates(Workflow):
        trainable_targets: list[str] | None = ["agent"]

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            critic = tuner.as_raw_openai_sdk_client("critic", "critic", server.model())
            for _ in range(2):
                await critic.chat.completions.create(model="x", messages=HELLO)
            return WorkflowOutput(reward=1.0)

    episodes = episodes_of(runner_of(Debates))
    assert [episode.failure for episode in episodes] == [None] * WORKERS
    assert len(server.requests) == 2 * WORKERS


# 3


class AsksAModel(BaseJudge):
    """As everybody writes it: the client is made once."""

    def __init__(self, url: str) -> None:
        from openai import AsyncOpenAI

        super().__init__(None)
        self.client = AsyncOpenAI(base_url=url, api_key="k")

    async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> tuple[float, bool]:
        answer = await self.client.chat.completions.create(model="judge", messages=HELLO)
        return 1.0, answer.choices[0].message.content == "strange"


def test_a_judges_client_from_init_works_in_every_step(server: Server) -> None:
    judge = AsksAModel(server.url)
    episodes = episodes_of(runner_of(Asks, judge=judge), num_steps=3)
    # Not left to the garbage collector, which would warn in a later test.
    judging._LOOP.start(judge.client.close()).result(60)
    assert [episode.failure for episode in episodes] == [None] * 3 * WORKERS
    assert all(episode.is_success for episode in episodes)


# 4


class Failing(BaseJudge):
    """Raises `errors`, one after the other, and is content then."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> tuple[float, bool]:
        if self.errors:
            raise self.errors.pop(0)
        return 1.0, True


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "FIRST_PAUSE_S", 0.0)


def openai_errors(url: str) -> list[Exception]:
    """What the OpenAI SDK raises: nobody listens; the server is busy."""
    import httpx2
    from openai import APIConnectionError, RateLimitError

    request = httpx2.Request("POST", url)
    busy = httpx2.Response(429, request=request)
    return [APIConnectionError(request=request), RateLimitError("busy", response=busy, body=None)]


@pytest.mark.usefixtures("without_pauses")
def test_transport_errors_of_a_judge_are_tried_again() -> None:
    errors = [ConnectionResetError("gone"), TimeoutError(), *openai_errors("http://x")]
    for error in errors:
        assert judged(Failing(error, error), max_retries=2) == (1.0, True)
        with pytest.raises(type(error)):
            judged(Failing(error, error, error), max_retries=2)


@pytest.mark.usefixtures("without_pauses")
def test_other_errors_of_a_judge_are_not() -> None:
    judge = Failing(ValueError("no answer"))
    with pytest.raises(ValueError, match="no answer"):
        judged(judge, max_retries=2)
    assert judge.errors == []


def test_a_debug_model_that_stays_broken_makes_the_episode_one_to_try_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ajet.gateway.upstream.MAX_RETRIES", 0)
    server.status = 503

    class Debates(Workflow):
        trainable_targets: list[str] | None = []

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            critic = tuner.as_raw_openai_sdk_client("critic", "critic", server.model())
            await critic.chat.completions.create(model="x", messages=HELLO)
            return WorkflowOutput(reward=1.0)

    (group,) = Rollout(runner=runner_of(Debates), seed=0, max_failure_share=1.0).run(
        tasks_of(1), num_repeat=1, tag="t"
    )
    (episode,) = group.episodes
    assert episode.failure is not None
    assert (episode.failure.kind, episode.retries) == ("engine_error", 2)
    assert "HTTP 503" in episode.failure.message


# 5


def test_a_judge_that_blocks_its_loop_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == judging.__name__]

    class Sleeps(BaseJudge):
        async def compute_reward(self, *_: Any) -> tuple[float, bool]:
            if warnings():
                time.sleep(0.5)  # the second time
            else:
                assert eventually(warnings)
            return 1.0, True

    monkeypatch.setattr(judging, "BLOCKED_S", 0.1)
    with caplog.at_level(logging.WARNING):
        assert judged(Sleeps(None)) == (1.0, True)
        assert judged(Sleeps(None)) == (1.0, True)
    (record,) = warnings()
    assert "Sleeps.compute_reward" in record.getMessage()


def test_a_judge_that_exits_fails_its_episode_only() -> None:
    class Exits(BaseJudge):
        async def compute_reward(self, *_: Any) -> tuple[float, bool]:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        judged(Exits(None))
    assert judged(Failing()) == (1.0, True)


# 6


def _answer_from_child(background: BackgroundLoop, answers: Any) -> None:
    background.start(running_loop()).result(timeout=60)
    answers.put("ok")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_gets_a_loop_of_its_own() -> None:
    background = BackgroundLoop("test-fork")
    background.start(running_loop()).result()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_answer_from_child, args=(background, answers))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == "ok"
