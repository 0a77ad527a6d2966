"""Episodes handed out to Ray actors, with actors that answer without a model.

1. Every attempt is run once, by all actors, with what its requests say unless they say otherwise.
2. The episodes of an actor that dies are tried again by others; it is replaced once.
3. Where tries are used up, the episode has failed; where no actor is left, the run ends.
4. An actor that does not answer is ended.
5. What a workflow returned and cannot be sent makes the episode a failed one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("verl")

import ray
from ray import cloudpickle

from ajet.backbone.verl import actor_executor
from ajet.backbone.verl.actor_executor import ActorExecutor
from ajet.errors import TrainingError
from ajet.schema.episode import Episode
from ajet.schema.task import Task, WorkflowOutput
from ajet.task_rollout.isolation.isolated_run import pickled
from ajet.task_rollout.workers import EpisodeLimits
from ajet.task_runner.episode_run import Attempt

pytestmark = [pytest.mark.verl, pytest.mark.timeout(600)]

RUNNER: Any = SimpleNamespace(gateway=SimpleNamespace(defaults="temperature 0"))


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        token = tmp_path_factory.mktemp("token") / "token"
        token.write_text("0" * 64)
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def attempts(count: int) -> list[Attempt]:
    task = Task(task_id="t")
    return [
        Attempt(seed=0, tag="train", task=task, group_index=0, repeat_index=i) for i in range(count)
    ]


@ray.remote(num_cpus=0, max_concurrency=8)
class Actor:
    """Runs an episode as the given function says."""

    def __init__(self, behave: Callable[[Attempt], None]) -> None:
        self.behave = behave

    def run(self, attempt: Attempt, defaults: str, limits: EpisodeLimits) -> bytes:
        self.behave(attempt)
        episode = Episode(
            episode_id=attempt.episode_id,
            task=attempt.task,
            repeat_index=attempt.repeat_index,
            retries=attempt.retries,
            metadata={"pid": os.getpid(), "defaults": defaults},
        )
        return bytes(cloudpickle.dumps(episode))


def run(
    behave: Callable[[Attempt], None], count: int = 8, *, retries: int = 2, timeout_s: float = 60
) -> tuple[ActorExecutor, list[Episode]]:
    executor = ActorExecutor(lambda: Actor.remote(behave), 2)
    limits = EpisodeLimits(num_at_once=4, timeout_s=timeout_s, max_retries=retries)
    ended: list[Episode] = []
    thread = threading.current_thread()

    def keep(attempt: Attempt, episode: Episode) -> None:
        assert threading.current_thread() is thread
        assert attempt.episode_id == episode.episode_id
        ended.append(episode)

    executor.run(RUNNER, attempts(count), limits, keep)
    return executor, ended


def test_every_attempt_is_run_once_by_all_actors():
    _, ended = run(lambda attempt: time.sleep(0.1))
    assert sorted(episode.repeat_index for episode in ended) == list(range(8))
    assert len({episode.metadata["pid"] for episode in ended}) == 2
    assert {episode.metadata["defaults"] for episode in ended} == {"temperature 0"}


def test_episodes_of_an_actor_that_dies_are_tried_again(tmp_path: Path):
    died = tmp_path / "died"

    def die_once(attempt: Attempt) -> None:
        if attempt.repeat_index == 3 and not died.exists():
            died.touch()
            os._exit(1)

    executor, ended = run(die_once)
    assert sorted(episode.repeat_index for episode in ended) == list(range(8))
    assert all(episode.failure is None for episode in ended)
    again = next(episode for episode in ended if episode.repeat_index == 3)
    assert again.retries == 1
    assert len(executor._actors) == 2, "it was replaced"


def test_an_episode_that_ends_every_process_has_failed(tmp_path: Path):
    def die(attempt: Attempt) -> None:
        if attempt.repeat_index == 0:
            os._exit(1)

    executor, ended = run(die, count=4, retries=1)
    failed = [episode for episode in ended if episode.failure is not None]
    assert len(ended) == 4
    assert 0 in {episode.repeat_index for episode in failed}
    assert {episode.failure.kind for episode in failed} == {"engine_error"}


def test_without_actors_the_run_ends():
    with pytest.raises(TrainingError, match="every process that ran episodes has ended"):
        run(lambda attempt: os._exit(1), retries=20)


def test_an_actor_that_does_not_answer_is_ended(monkeypatch):
    monkeypatch.setattr(actor_executor, "SLACK_S", -actor_executor.GRACE_S)

    def hang(attempt: Attempt) -> None:
        if attempt.repeat_index == 0:
            time.sleep(100)

    _, ended = run(hang, count=2, retries=0, timeout_s=8)
    assert {episode.repeat_index: bool(episode.failure) for episode in ended}[0] is True


def test_a_fault_of_ours_ends_the_run():
    def fail(attempt: Attempt) -> None:
        raise KeyError("x")

    with pytest.raises(TrainingError, match="an episode could not be run: KeyError"):
        run(fail)


def test_what_cannot_be_sent_makes_an_episode_a_failed_one():
    episode = Episode(episode_id="e", task=Task(task_id="t"), repeat_index=0)
    assert cloudpickle.loads(pickled(episode, cloudpickle.dumps)) == episode
    episode.output = WorkflowOutput(reward=1.0, metadata={"lock": threading.Lock()})
    failed = cloudpickle.loads(pickled(episode, cloudpickle.dumps))
    assert failed.failure.kind == "invalid_output"
    assert "cannot be sent" in failed.failure.message
