"""Runs one attempt at one task: tuner, workflow, reward, samples.

How an episode ends. The first rule that applies decides:

1. It was stopped from outside: `timeout` or `cancelled`, whatever the workflow returns then.
2. The environment failed at any time: `environment_error`, even if the workflow hid the failure.
   `execute` raised: `engine_error` if the engine had failed. If the context overflowed and there is
   a judge, the judge decides on what there is. If a completion's check ended the episode, rule 4
   applies. Otherwise `workflow_error`. Episodes that end with an engine or environment error are
   tried again.
3. The output is unusable (None, another type, NaN, a list of the wrong length, an unknown agent,
   no reward and no judge): `invalid_output`.
4. A completion of a trained agent failed a check (`rollout.compute_madness_checklist`): the
   episode gets `madness_reward` and is no success, whatever workflow or judge say.
5. The judge raised or gave an unusable reward: `judge_error`. A group judge is asked when all
   episodes of the group have ended, so the reward is still missing here.
6. There is a reward. Without `is_success`, a reward above 0 is a success.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ajet.boundary import caught_error, outside_the_loop
from ajet.context_tracker.samples import SampleLimits
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.environment.episode_environment import EnvironmentSource, EpisodeEnvironment
from ajet.environment.messages import text_of
from ajet.errors import EngineError, EnvironmentFault, EpisodeError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.gateway import Gateway
from ajet.schema.episode import (
    Episode,
    Failure,
    FailureKind,
    Sample,
    Waiting,
    conversations,
)
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask, exceeds
from ajet.task_judge.base_judge import BaseGroupJudge, BaseJudge, Judge
from ajet.task_runner.failures import failure_of, is_context_overflow, place_of
from ajet.task_runner.judging import Rewards, ask_judge, finite, spread_reward
from ajet.tuner import AjetTuner
from ajet.workflow import Workflow


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeRunner:
    """What all episodes of a phase share; a greedy evaluation has its own gateway, so its own."""

    workflow_class: type[Workflow]
    gateway: Gateway
    http_endpoint: HttpEndpoint = field(default_factory=HttpEndpoint)
    config: Any = None
    """The whole resolved configuration, for `tuner.config`."""
    judge: Judge | None = None
    """Gives the reward when the workflow returns none."""
    judge_retries: int = 0
    """How often a judge is asked again after an error of the network."""
    environments: EnvironmentSource | None = None
    """Opens the environment of each episode; None: the episodes have no environment."""
    tokenizer: Any = None
    """For `workflow_task.tokenizer`."""
    limits: SampleLimits = field(default_factory=SampleLimits)
    madness_reward: float = -1.0
    """Reward of an episode in which a completion fails a check of the gateway's checklist."""

    def start(self, attempt: Attempt) -> StartedEpisode:
        """The run of one attempt: await its `run()`; any thread may `stop()` it."""
        return EpisodeRun(self, attempt)

    def settle(self) -> None:
        """Wait until all environments are released. Called when no episode runs any more."""
        if self.environments:
            self.environments.settle()

    async def run(self, attempt: Attempt) -> Episode:
        """Run one attempt to its end, without a deadline."""
        return await self.start(attempt).run()


class StartedEpisode(Protocol):
    """One attempt, in this process or in one of its own; see `EpisodeRun` for the methods."""

    attempt: Attempt
    before_judge: Callable[[], None] | None
    """Called when the agents are done and only the judge is left."""

    async def run(self) -> Episode:
        """Run to the end."""
        ...

    def stop(self, cause: Failure) -> None:
        """End the episode; from any thread."""
        ...

    def release_environment(self) -> None:
        """Release the environment of an episode that does not end."""
        ...

    def episode(self) -> Episode:
        """The record of what has happened so far."""
        ...

    def waiting(self, thread: threading.Thread | None = None) -> list[Waiting]:
        """What the episode waits for now; from any thread."""
        ...


class EpisodeRun:
    """One attempt. `run` is called in one event loop; the other methods from any thread."""

    def __init__(self, runner: EpisodeRunner, attempt: Attempt) -> None:
        self.attempt = attempt
        self._runner = runner
        self._tracker = ContextTracker(
            runner.gateway.chat_format,
            episode_id=attempt.episode_id,
            task_id=attempt.task.task_id,
        )
        self._record = EpisodeRecord(self._tracker)
        self._workflow_task: WorkflowTask | None = None
        self._environment: EpisodeEnvironment | None = None
        self._tuner: AjetTuner | None = None
        self._output = WorkflowOutput()
        self._rewards: Rewards | None = None
        self._is_success: bool | None = None
        self._samples: tuple[list[Sample], dict[str, int]] | None = None
        self._num_sampled_calls = 0
        self._failure: Failure | None = None
        self._stopped: Failure | None = None
        self._user_code: asyncio.Task[None] | None = None
        self._started_s = time.time()
        self._judged_since_s: float | None = None
        self._judge_s: float | None = None
        self.before_judge: Callable[[], None] | None = None
        """Called when the agents are done and only the judge is left."""

    async def run(self) -> Episode:
        """Run to the end. What user code raises ends up in the episode, whatever its class.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            asyncio.CancelledError: the workflow cancelled every task of its event loop.
        """
        self._user_code = asyncio.create_task(self._work())
        if self._stopped:  # `stop` came before it had a task to cancel
            self._user_code.cancel()
        try:
            await asyncio.wait([self._user_code])
        finally:
            self.release_environment()
            if self._user_code.done() and not self._user_code.cancelled():
                self._user_code.exception()  # else asyncio shows it once more
        if not self._user_code.cancelled():
            try:
                self._user_code.result()  # raises what the boundary lets pass
            except GeneratorExit as error:  # raised by user code: the task has ended
                is_judges = self._judged_since_s is not None
                self._failure = failure_of(error, "judge_error" if is_judges else "workflow_error")
        return self.episode()

    def stop(self, cause: Failure) -> None:
        """End the episode: its model requests are refused, what it awaits is cancelled.

        Code that blocks or ignores its cancellation continues; `episode()` is then the record so
        far.
        """
        self._stopped = cause
        if self._tuner:
            self._tuner.close()
        if self._environment:
            self._environment.stop()
        if self._user_code:
            # A loop that is already closed has nothing left to cancel.
            with contextlib.suppress(RuntimeError):
                self._user_code.get_loop().call_soon_threadsafe(self._user_code.cancel)

    def release_environment(self) -> None:
        """Release the environment. `run` does so; call it when `run` will not reach its end."""
        if self._environment:
            self._environment.release()

    def episode(self) -> Episode:
        """The record of what has happened so far."""
        calls = self._tracker.calls
        episode = Episode(
            episode_id=self.attempt.episode_id,
            task=self.attempt.task,
            repeat_index=self.attempt.repeat_index,
            calls=calls,
            debug_calls=self._tuner.debug_calls if self._tuner else {},
            retries=self.attempt.retries,
            final_task=self._workflow_task.task if self._workflow_task else None,
            output=self._output,
            metadata=self._output.metadata,
            context_overflows=self._record.context_overflows,
            failed_checks={
                rule: sum(rule in call.failed_checks for call in calls)
                for rule in self._runner.gateway.checklist
            },
            started_s=self._started_s,
            ended_s=time.time(),
            judge_s=self._judge_s,
        )
        failure = self._failure
        if self._stopped:
            failure = replace(self._stopped, traceback=failure.traceback if failure else "")
        if failure:
            sampled = sum(len(call.completion_ids) for call in calls if call.trained)
            episode.failure = failure
            episode.dropped_tokens = {"failed_episode": sampled} if sampled else {}
            return episode
        self._make_samples()
        assert self._samples is not None, "they have just been made"
        episode.samples, episode.dropped_tokens = self._samples
        episode.log_metrics = self._output.flat_metrics
        if self._rewards is None:
            assert isinstance(self._runner.judge, BaseGroupJudge), "there is a reward, or it comes"
            episode.awaits_group = True
            return episode
        episode.reward = self._rewards.episode
        episode.call_rewards = self._rewards.calls
        episode.reward_per = self._rewards.per
        episode.is_success = self._is_success
        return episode

    def waiting(self, thread: threading.Thread | None = None) -> list[Waiting]:
        """What the episode waits for now; `thread` is the one that runs it. Any thread."""
        task = self._user_code
        if task is None or task.done():
            return []
        who = f"task {self.attempt.task.task_id}, episode {self.attempt.episode_id[:8]}"
        calls = self._tracker.calls
        if open_calls := self._record.open_calls:
            return [
                Waiting(
                    what="engine",
                    who=f"{who}, call {len(calls) + number} of agent {call.agent_name}",
                    since_s=call.since_s,
                )
                for number, call in enumerate(open_calls, start=1)
            ]
        if self._judged_since_s is not None:
            return [Waiting(what="judge", who=who, since_s=self._judged_since_s)]
        asks_environment, where = place_of(task.get_coro(), thread)
        return [
            Waiting(
                what="environment" if asks_environment else "workflow",
                who=who,
                since_s=max([self._started_s, *(call.ended_s for call in calls)]),
                where=where,
            )
        ]

    async def _work(self) -> None:
        returned = await self._guard("workflow_error", self._execute())
        if self._tuner:
            self._tuner.close()
        if self._failure is None:
            await self._guard("invalid_output", self._read(returned))
        is_alone = not isinstance(self._runner.judge, BaseGroupJudge)
        if self._failure is None and self._rewards is None and is_alone:
            await self._guard("judge_error", self._judge())

    async def _guard(self, kind: FailureKind, user_code: Awaitable[Any]) -> Any:
        """The boundary around user code: what it raises becomes the episode's failure."""
        with caught_error(cancellation=True) as caught:
            returned = await user_code
            if self._environment and self._environment.fault:
                raise self._environment.fault
            return returned
        error = caught.error
        assert error is not None, "without an error the block returned"
        fault = error if isinstance(error, EngineError) else self._record.engine_error
        if fault and kind != "judge_error":
            self._failure = replace(
                failure_of(error, "engine_error"), message=f"EngineError: {fault}"
            )
        elif self._environment and self._environment.fault:
            self._failure = replace(
                failure_of(error, "environment_error"),
                message=f"{EnvironmentFault.__name__}: {self._environment.fault}",
            )
        elif kind == "workflow_error" and self._record.ended_by_check:
            return WorkflowOutput(metadata={"ended_by": self._record.ended_by_check})
        elif kind == "workflow_error" and self._runner.judge and is_context_overflow(error):
            return WorkflowOutput(metadata={"ended_by": "context_length_exceeded"})
        else:
            self._failure = failure_of(error, kind)
        return None

    async def _execute(self) -> Any:
        attempt = self.attempt
        self._workflow_task = WorkflowTask(
            # A copy: episodes of one task must not see what another did to its metadata.
            task=attempt.task.model_copy(deep=True),
            task_id=attempt.task.task_id,
            episode_uuid=attempt.episode_id,
            env_type=attempt.task.env_type,
            task_tag=attempt.tag,
            tokenizer=self._runner.tokenizer,
        )
        if self._runner.environments:
            await self._open_environment(self._runner.environments, self._workflow_task)
        workflow = self._runner.workflow_class()
        self._tuner = AjetTuner(
            config=self._runner.config,
            gateway=self._runner.gateway,
            record=self._record,
            http_endpoint=self._runner.http_endpoint,
            trainable_targets=workflow.trainable_targets,
        )
        # A plain `def execute` may block: the episode has this thread for itself.
        with outside_the_loop():
            returned: Any = workflow.execute(self._workflow_task, self._tuner)
        return await returned if inspect.isawaitable(returned) else returned

    async def _open_environment(self, source: EnvironmentSource, shown: WorkflowTask) -> None:
        self._environment = source.open(self.attempt.task, self.attempt.episode_id)
        if self._environment is None:
            return
        if self._stopped:  # `stop` came before there was an environment to stop
            self._environment.stop()
        shown.gym_env = self._environment
        shown.task.init_messages = await self._environment.create()
        shown.task.main_query = text_of(shown.task.init_messages[-1:])

    async def _read(self, returned: Any) -> None:
        if not isinstance(returned, WorkflowOutput):
            what = "None" if returned is None else f"a {type(returned).__name__}"
            raise EpisodeError(f"the workflow returned {what}: return a WorkflowOutput")
        for name in ("metadata", "log_metrics"):
            if exceeds(getattr(returned, name), MOST_OUTPUT_BYTES):
                raise EpisodeError(
                    f"{name} has more than {MOST_OUTPUT_BYTES // 2**20} MB, or contains itself; "
                    "write large data into files and return their paths"
                )
        _check_metrics(returned.flat_metrics)
        self._output = returned
        is_mad = any(call.failed_checks for call in self._tracker.calls)
        if returned.reward is not None:
            self._set_rewards(returned.reward, returned.is_success)
        elif not self._runner.judge and not is_mad:
            raise EpisodeError(
                "the workflow gave no reward and there is no judge: set WorkflowOutput(reward=...) "
                "or ajet.task_judge.judge_protocol"
            )
        if is_mad:
            self._set_rewards(self._runner.madness_reward, is_success=False)

    async def _judge(self) -> None:
        judge = self._runner.judge
        assert isinstance(judge, BaseJudge) and self._workflow_task
        if self.before_judge and not judge.holds_place:
            self.before_judge()
        self._output.set_trajectory(conversations(self._tracker.calls))
        started_s, self._judged_since_s = time.monotonic(), time.time()
        try:
            verdict = await ask_judge(
                judge,
                self._workflow_task,
                self._output,
                max_retries=self._runner.judge_retries,
                # Training waits for the last answer: what needs no reward is done before.
                meanwhile=self._make_samples,
            )
        finally:
            self._judge_s = time.monotonic() - started_s
        self._set_rewards(*verdict)

    def _make_samples(self) -> None:
        """Turn the calls into samples, unless that is already done."""
        num_calls = len(self._tracker.calls)
        if self._samples is None or self._num_sampled_calls != num_calls:
            self._num_sampled_calls = num_calls
            self._samples = self._tracker.samples(self._runner.limits)

    def _set_rewards(self, reward: Any, is_success: bool | None) -> None:
        debug_agents = self._tuner.debug_calls if self._tuner else {}
        rewards = spread_reward(reward, self._tracker.calls, debug_agents)
        self._is_success = rewards.episode > 0 if is_success is None else bool(is_success)
        self._rewards = rewards


def _check_metrics(metrics: Mapping[str, float]) -> None:
    if len(metrics) > MOST_METRICS:
        raise EpisodeError(
            f"log_metrics has {len(metrics)} numbers, {MOST_METRICS} are allowed: each becomes a "
            "metric of the run"
        )
    for name, value in metrics.items():
        if not name.isprintable() or len(name) > MOST_CHARACTERS:
            raise EpisodeError(
                f"log_metrics has the name {name[:MOST_CHARACTERS]!a}: use printable characters, "
                f"at most {MOST_CHARACTERS}"
            )
        finite(value, f'log_metrics["{name}"]')


MOST_METRICS, MOST_CHARACTERS = 1_000, 500
"""Limits of an episode's metrics, and of each of their names: all are kept for every step."""
MOST_OUTPUT_BYTES = 8 * 2**20
"""Largest size of an episode's metadata, and of its metrics. Both stay in memory for a step and are
written into the run folder."""
_NAMESPACE = uuid.UUID("6f0c7a52-3d0b-5a53-9f0e-5d3c1c1f7a11")


@dataclass(slots=True, kw_only=True, frozen=True)
class Attempt:
    """One attempt at one episode of a task. Its id and what derives from it are reproducible."""

    seed: int
    """Seed of the run."""
    tag: str
    """Name of the phase, such as `train/000012`; unique within a run."""
    task: Task
    group_index: int
    """Position of the task in the phase; a task that occurs twice makes two groups."""
    repeat_index: int
    """Index of the episode in its group, from 0."""
    retries: int = 0
    """Earlier attempts, each ended by an infrastructure fault."""

    @property
    def episode_id(self) -> str:
        """A UUID that depends only on the fields of this attempt."""
        names = [self.seed, self.tag, self.group_index, self.task.task_id, self.repeat_index]
        return str(uuid.uuid5(_NAMESPACE, json.dumps([*names, self.retries])))
