"""One episode: every way in which it can end without a reward, and what is then in its record.

1. What user code raises is `workflow_error`; a fault of the engine is `engine_error`.
2. A context overflow that nobody handles goes to the judge, if there is one.
3. Nothing of a failed episode is trained, and all of it is counted as dropped.
4. Stopping from outside decides the outcome, whatever the workflow does then.
5. The samples are made while an asynchronous judge is awaited, once.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ajet import Workflow, WorkflowOutput
from ajet.context_tracker.tracker import ContextTracker
from ajet.errors import EngineError, EpisodeError
from ajet.schema.episode import Episode, Failure
from ajet.schema.task import Task
from ajet.task_judge.base_judge import BaseJudge
from tests.unit.episode_fakes import (
    ANSWER,
    FakeEngine,
    FixedJudge,
    ask,
    assert_failed,
    attempt_of,
    returning,
    rewarded,
    run_episode,
    runner_of,
)

pytestmark = pytest.mark.filterwarnings("error")


def raising(error: BaseException) -> type[Workflow]:
    class Raising(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            await ask(tuner)
            raise error

    return Raising


# What user code raises.


@pytest.mark.parametrize(
    "error", [ValueError("bad tool\nmore"), SystemExit(3), asyncio.CancelledError(), EpisodeError()]
)
def test_what_a_workflow_raises_is_its_error(error: BaseException) -> None:
    episode = run_episode(raising(error))
    assert_failed(episode, "workflow_error", type(error).__name__)
    assert episode.failure is not None
    assert "\n" not in episode.failure.message
    assert "in execute" in episode.failure.traceback
    assert "_guard" not in episode.failure.traceback
    assert len(episode.calls) == 1


def test_a_workflow_that_cannot_be_made_is_its_error() -> None:
    class Broken(Workflow):
        def __init__(self) -> None:
            raise OSError("no such model")

    assert_failed(run_episode(Broken), "workflow_error", "OSError: no such model")


def test_a_refused_request_that_nobody_handles_is_the_workflows_error() -> None:
    class Refused(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> Any:
            await tuner.as_raw_openai_sdk_client().chat.completions.create(
                model="policy", messages=[{"role": "user", "content": "hi"}], temperature=-1
            )

    assert_failed(run_episode(Refused), "workflow_error", "BadRequestError")


# The engine.


def test_an_engine_fault_behind_the_clients_own_exception_is_found() -> None:
    episode = run_episode(returning(rewarded()), engine=FakeEngine(num_faults=1))
    assert_failed(episode, "engine_error", "the engine caught fire")
    assert episode.failure is not None
    assert "openai" in episode.failure.traceback


def test_an_engine_fault_that_reaches_the_top_is_found() -> None:
    assert_failed(run_episode(raising(EngineError("gone"))), "engine_error", "gone")


def test_an_engine_fault_that_the_workflow_survives_is_no_failure() -> None:
    class TriesAgain(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            try:
                await ask(tuner)
            except Exception:
                await ask(tuner)
            return rewarded()

    episode = run_episode(TriesAgain, engine=FakeEngine(num_faults=1))
    assert episode.failure is None
    assert len(episode.calls) == 1


# Context overflow.


class Overflowing(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        await ask(tuner, text="x" * 1000)
        return rewarded()


class Wrapping(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        try:
            return await Overflowing().execute(workflow_task, tuner)
        except Exception as error:
            raise RuntimeError("my agent failed") from error


@pytest.mark.parametrize("workflow_class", [Overflowing, Wrapping])
def test_the_judge_decides_on_an_overflowed_episode(workflow_class: type[Workflow]) -> None:
    judge = FixedJudge((0.0, False))
    episode = run_episode(workflow_class, judge=judge)
    assert episode.failure is None
    assert episode.reward == 0.0
    assert len(episode.calls) == 1
    assert sum(sample.num_trained for sample in episode.samples) == len(ANSWER)
    assert judge.outputs[0].metadata == {"ended_by": "context_length_exceeded"}


def test_an_overflow_without_a_judge_is_the_workflows_error() -> None:
    assert_failed(run_episode(Overflowing), "workflow_error", "maximum context length")


# Isolation.


def test_a_workflow_cannot_change_the_task_of_others() -> None:
    class Meddling(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            workflow_task.task.metadata["answer"] = "mine"
            return rewarded()

    task = Task(main_query="q", task_id="t", metadata={"answer": "2"})
    asyncio.run(runner_of(Meddling).run(attempt_of(task)))
    assert task.metadata == {"answer": "2"}


def test_every_episode_gets_a_fresh_workflow_and_its_own_id() -> None:
    class Counting(Workflow):
        count: int = 0

        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            self.count += 1
            return rewarded(self.count, metadata={"id": workflow_task.episode_uuid})

    runner = runner_of(Counting)
    episodes = [asyncio.run(runner.run(attempt_of(repeat_index=i))) for i in (0, 0, 1)]
    assert [episode.reward for episode in episodes] == [1, 1, 1]
    assert episodes[0].episode_id == episodes[1].episode_id != episodes[2].episode_id
    assert episodes[0].metadata == {"id": episodes[0].episode_id}


def test_requests_after_the_end_are_refused_and_not_recorded() -> None:
    left: list[asyncio.Task[None]] = []
    has_ended = asyncio.Event()

    class Leaving(Workflow):
        async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
            left.append(asyncio.create_task(self.talk(tuner.as_raw_openai_sdk_client())))
            return rewarded()

        async def talk(self, client: Any) -> None:
            await has_ended.wait()
            await client.chat.completions.create(
                model="policy", messages=[{"role": "user", "content": "hi"}]
            )

    async def run_and_wait() -> Episode:
        episode = await runner_of(Leaving).run(attempt_of())
        has_ended.set()
        with pytest.raises(Exception, match="this episode is over"):
            await left[0]
        return episode

    assert asyncio.run(run_and_wait()).calls == []


# Stopping from outside.

waits: list[Workflow] = []
"""Workflows that have made their call and wait to be stopped."""


def stop_while_running(workflow_class: type[Workflow], kind: Any) -> Episode:
    waits.clear()

    async def both() -> Episode:
        run = runner_of(workflow_class).start(attempt_of())
        task = asyncio.create_task(run.run())
        async with asyncio.timeout(60):
            while not waits:
                await asyncio.sleep(0.01)
        run.stop(Failure(kind=kind, message="enough"))
        return await task

    return asyncio.run(both())


class Waiting(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await ask(tuner)
        waits.append(self)
        await asyncio.sleep(60)
        return rewarded()


class Stubborn(Workflow):
    """Takes its cancellation for an answer, as AgentScope's agents do, and goes on."""

    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        client = tuner.as_raw_openai_sdk_client()
        await ask(tuner)
        waits.append(self)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            with pytest.raises(Exception, match="this episode is over"):
                await client.chat.completions.create(
                    model="policy", messages=[{"role": "user", "content": "hi"}]
                )
        return rewarded()


@pytest.mark.parametrize("workflow_class", [Waiting, Stubborn])
@pytest.mark.parametrize("kind", ["timeout", "cancelled"])
def test_a_stopped_episode_has_failed_whatever_it_returns(
    workflow_class: type[Workflow], kind: str
) -> None:
    episode = stop_while_running(workflow_class, kind)
    assert_failed(episode, kind, "enough")
    assert len(episode.calls) == 1


def test_the_traceback_of_a_stopped_episode_says_where_it_waited() -> None:
    episode = stop_while_running(Waiting, "timeout")
    assert episode.failure is not None
    assert "asyncio.sleep(60)" in episode.failure.traceback


def test_an_episode_that_is_stopped_before_it_begins_does_not_begin() -> None:
    async def run_stopped() -> Episode:
        run = runner_of(returning(rewarded())).start(attempt_of())
        run.stop(Failure(kind="cancelled", message="enough"))
        return await run.run()

    assert_failed(asyncio.run(run_stopped()), "cancelled", "enough")


class WaitingJudge(BaseJudge):
    """Says yes when the samples of its episode have been made."""

    def __init__(self, made: threading.Event, any_loop: bool) -> None:
        super().__init__(None)
        self.made, self.any_loop = made, any_loop

    async def compute_reward(self, workflow_task: Any, workflow_output: Any) -> tuple[float, bool]:
        async with asyncio.timeout(60):
            while not self.made.is_set():
                await asyncio.sleep(0.001)
        return 1.0, True


@pytest.mark.parametrize("any_loop", [False, True])
def test_samples_are_made_while_a_judge_is_awaited(
    monkeypatch: pytest.MonkeyPatch, any_loop: bool
) -> None:
    made, original = [], ContextTracker.samples
    is_made = threading.Event()

    def samples(tracker: ContextTracker, limits: Any) -> Any:
        made.append(tracker)
        is_made.set()
        return original(tracker, limits)

    monkeypatch.setattr(ContextTracker, "samples", samples)
    judge = WaitingJudge(is_made, any_loop)
    episode = run_episode(returning(WorkflowOutput()), judge=judge)
    assert episode.reward == 1.0 and len(episode.samples) == 1
    assert len(made) == 1
