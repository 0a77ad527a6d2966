"""Rewards recorded episodes again, by the same judge or by another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ajet.boundary import caught_error
from ajet.errors import EpisodeError
from ajet.schema.episode import Episode, Group, conversations
from ajet.schema.task import WorkflowTask
from ajet.task_judge.base_judge import BaseGroupJudge, BaseJudge, Judge
from ajet.task_runner.failures import failure_of
from ajet.task_runner.judging import ask_judge, judge_group, spread_reward


@dataclass(slots=True, kw_only=True, frozen=True)
class Rescorer:
    """Rewards recorded episodes in the same way as a run."""

    judge: Judge | None
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

    def rewarded_groups(self, groups: Sequence[Group], *, num_threads: int) -> list[Group]:
        """Copies of the groups with new rewards, in the same order; see `rewarded`."""
        judge = self.judge
        if isinstance(judge, BaseGroupJudge):
            with ThreadPoolExecutor(num_threads) as pool:
                return list(pool.map(lambda group: asyncio.run(self._group(judge, group)), groups))
        episodes = [episode for group in groups for episode in group.episodes]
        again = iter(self.rewarded(episodes, num_threads=num_threads))
        return [replace(g, episodes=[next(again) for _ in g.episodes]) for g in groups]

    async def _group(self, judge: BaseGroupJudge, group: Group) -> Group:
        episodes = [
            replace(episode, failure=None, awaits_group=True)
            if may_be_judged(episode) and (episode.output.reward is None or self.asks_always)
            else await self._one(episode)
            for episode in group.episodes
        ]
        first = next((episode for episode in episodes if episode.awaits_group), None)
        if first is not None:
            await judge_group(judge, self._workflow_task(first), episodes)
        return replace(group, episodes=episodes)

    async def _one(self, episode: Episode) -> Episode:
        """The episode with its new reward; a judge that fails makes it a failed episode."""
        if not may_be_judged(episode):
            return episode
        reward, is_success = episode.output.reward, episode.output.is_success
        seconds = None
        with caught_error() as caught:
            if reward is None or self.asks_always:
                started_s = time.monotonic()
                reward, is_success = await self._ask(episode)
                seconds = time.monotonic() - started_s
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
            judge_s=seconds,
        )

    async def _ask(self, episode: Episode) -> tuple[Any, Any]:
        if not isinstance(self.judge, BaseJudge):
            raise EpisodeError("the workflow gave no reward and there is no judge")
        if episode.calls:
            episode.output.set_trajectory(conversations(episode.calls))
        return await ask_judge(self.judge, self._workflow_task(episode), episode.output)

    def _workflow_task(self, episode: Episode) -> WorkflowTask:
        task = episode.final_task or episode.task
        return WorkflowTask(
            task=task,
            task_id=task.task_id,
            episode_uuid=episode.episode_id,
            env_type=task.env_type,
            task_tag=self.task_tag,
            tokenizer=self.tokenizer,
        )


def may_be_judged(episode: Episode) -> bool:
    """True if a judge may decide on it: it did not fail before, and it passed all checks."""
    if episode.failure is not None and episode.failure.kind != "judge_error":
        return False
    # With a failed check its reward is `rollout.agent_madness_reward`.
    return not any(call.failed_checks for call in episode.calls)
