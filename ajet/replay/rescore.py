"""Rewards recorded episodes again, by the same judge or by another one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ajet.boundary import caught_error
from ajet.errors import EpisodeError
from ajet.schema.episode import Episode
from ajet.schema.task import WorkflowTask
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_runner.failures import failure_of
from ajet.task_runner.judging import ask_judge, spread_reward


@dataclass(slots=True, kw_only=True, frozen=True)
class Rescorer:
    """Rewards recorded episodes in the same way as a run."""

    judge: BaseJudge | None
    """None: every workflow returned its reward itself."""
    asks_always: bool = False
    """Call the judge even if the workflow returned a reward."""
    task_tag: str = ""
    """The value of `workflow_task.task_tag`."""
    tokenizer: Any = None
    """The value of `workflow_task.tokenizer`."""

    def rewarded(self, episodes: Sequence[Episode], *, num_threads: int) -> list[Episode]:
        """Copies of the episodes with new rewards, in the same order.

        Episodes that failed before they could be rewarded are returned unchanged.

        Args:
            episodes: recorded episodes with calls, final task and output.
            num_threads: how many episodes are judged at the same time. A judge may block, so each
                has a thread and an event loop of its own.
        """
        with ThreadPoolExecutor(num_threads) as pool:
            return list(pool.map(lambda episode: asyncio.run(self._one(episode)), episodes))

    async def _one(self, episode: Episode) -> Episode:
        """The episode with its new reward; a judge that fails makes it a failed episode."""
        if episode.failure is not None and episode.failure.kind != "judge_error":
            return episode
        if any(call.failed_checks for call in episode.calls):
            return episode  # no judge decides on it: its reward is `rollout.agent_madness_reward`
        reward, is_success = episode.output.reward, episode.output.is_success
        with caught_error() as caught:
            if reward is None or self.asks_always:
                reward, is_success = await self._ask(episode)
            rewards = spread_reward(reward, episode.calls, episode.debug_calls)
        if caught.error:
            failure = failure_of(caught.error, "judge_error")
            return replace(
                episode, reward=None, call_rewards=None, is_success=None, failure=failure
            )
        return replace(
            episode,
            reward=rewards.episode,
            call_rewards=rewards.calls,
            reward_per=rewards.per,
            is_success=rewards.episode > 0 if is_success is None else bool(is_success),
            failure=None,
        )

    async def _ask(self, episode: Episode) -> tuple[Any, Any]:
        if self.judge is None:
            raise EpisodeError("the workflow gave no reward and there is no judge")
        task = episode.final_task or episode.task
        workflow_task = WorkflowTask(
            task=task,
            task_id=task.task_id,
            episode_uuid=episode.episode_id,
            env_type=task.env_type,
            task_tag=self.task_tag,
            tokenizer=self.tokenizer,
        )
        return await ask_judge(self.judge, workflow_task, episode.output)
