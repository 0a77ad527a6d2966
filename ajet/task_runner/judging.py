"""Asks a judge, on an event loop that outlives episodes, and turns its answer into rewards.

One judge serves all episodes. An asynchronous judge usually makes its client in `__init__`; the
client's connections belong to the event loop that opened them. Episodes have a loop each, which
ends with them, so the coroutines of judges run on one loop that stays, unless they say `any_loop`.
A judge that blocks is a plain `def` and runs in the episode's own thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np

from ajet.background_loop import BackgroundLoop
from ajet.boundary import caught_error, outside_the_loop, text_of
from ajet.errors import EpisodeError
from ajet.schema.episode import Call, Episode, conversations
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseGroupJudge, BaseJudge, Judge
from ajet.task_runner.failures import attribute_of, causes_of, failure_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S = 0.5
"""Pause before a judge is asked again; it doubles each time, up to `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S = 8.0
BLOCKED_S = 5.0
"""A judge that keeps the loop busy for longer is named in a warning, once."""

_LOOP = BackgroundLoop("ajet-judges")
_TRANSPORT_ERRORS = {
    "aiohttp.ClientConnectionError",
    "httpx.TransportError",
    "httpx2.TransportError",
    "openai.APIConnectionError",
    "anthropic.APIConnectionError",
    "requests.ConnectionError",
    "requests.Timeout",
    "urllib3.TransportError",
}
"""Library and class, so that no library is imported only to compare."""
_TEMPORARY_STATUS = {408, 429, 500, 502, 503, 504, 529}


async def ask_judge(
    judge: BaseJudge,
    workflow_task: WorkflowTask,
    output: WorkflowOutput,
    *,
    max_retries: int = 0,
    meanwhile: Callable[[], None] | None = None,
) -> tuple[Any, Any]:
    """Reward and success from a judge, asynchronous or not. The values are not checked yet.

    Args:
        judge: gives reward and success.
        workflow_task: what the workflow got.
        output: what the workflow returned.
        max_retries: how often to ask again after an error of the network or of a busy server.
        meanwhile: called when an asynchronous judge has been asked; its answer comes later.

    Raises:
        EpisodeError: the judge did not return a pair.
    """

    async def ask() -> tuple[Any, Any]:
        given = await _called(
            judge, lambda: judge.compute_reward(workflow_task, output), meanwhile=meanwhile
        )
        if not isinstance(given, tuple) or len(given) != 2:
            raise EpisodeError(f"the judge returned {given!r}, expected (reward, is_success)")
        reward, is_success = given
        return reward, is_success

    return await _asked_again(ask, max_retries)


async def judge_group(
    judge: BaseGroupJudge,
    workflow_task: WorkflowTask,
    episodes: Sequence[Episode],
    *,
    max_retries: int = 0,
) -> None:
    """Give each episode that awaits it its reward, or the judge's failure as its own."""
    waiting = [episode for episode in episodes if episode.awaits_group]
    if not waiting:
        return
    started_s = time.monotonic()
    outputs = [episode.output for episode in waiting]
    for episode in waiting:
        episode.output.set_trajectory(conversations(episode.calls))

    async def ask() -> list[tuple[Any, Any]]:
        given = await _called(judge, lambda: judge.compute_rewards(workflow_task, outputs))
        if not isinstance(given, list) or len(given) != len(outputs):
            raise EpisodeError(
                f"the judge returned {given!r} for {len(outputs)} episodes, expected a list with "
                "one (reward, is_success) for each"
            )
        return given

    with caught_error() as caught:
        verdicts = await _asked_again(ask, max_retries)
        for episode, verdict in zip(waiting, verdicts, strict=True):
            _set_verdict(episode, verdict)
    seconds = time.monotonic() - started_s
    for episode in waiting:
        episode.judge_s, episode.awaits_group = seconds, False
        if caught.error:
            fail_judged(episode, caught.error)


def _set_verdict(episode: Episode, verdict: Any) -> None:
    if not isinstance(verdict, tuple) or len(verdict) != 2:
        raise EpisodeError(f"the judge returned {verdict!r}, expected (reward, is_success)")
    reward, is_success = verdict
    rewards = spread_reward(reward, episode.calls, episode.debug_calls)
    episode.reward, episode.call_rewards = rewards.episode, rewards.calls
    episode.reward_per = rewards.per
    episode.is_success = rewards.episode > 0 if is_success is None else bool(is_success)


def fail_judged(episode: Episode, error: BaseException) -> None:
    """Make it a failed episode: what it sampled is not trained."""
    episode.failure = failure_of(error, "judge_error")
    episode.reward, episode.call_rewards, episode.is_success = None, None, None
    episode.samples = []
    sampled = sum(len(call.completion_ids) for call in episode.calls if call.trained)
    episode.dropped_tokens = {"failed_episode": sampled} if sampled else {}


async def _asked_again(ask: Callable[[], Awaitable[T]], max_retries: int) -> T:
    """What a judge answers, asked again after errors of the network or of a busy server."""
    pause_s = FIRST_PAUSE_S
    for retries_left in reversed(range(max_retries + 1)):
        with caught_error() as caught:
            return await ask()
        error = caught.error
        assert error is not None, "without an error the block returned"
        if not retries_left or not is_transport_error(error):
            raise error
        logger.info("judge: %s: %s; asking again", type(error).__name__, text_of(error))
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    raise AssertionError("the last attempt returns or raises")


def is_transport_error(error: BaseException) -> bool:
    """Whether the network or a busy server caused the error, so that another attempt may help."""
    return any(_is_of_transport(cause) for cause in causes_of(error))


def _is_of_transport(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    names = {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(error).mro()}
    status = attribute_of(error, "status_code") or attribute_of(error, "response.status_code")
    return bool(names & _TRANSPORT_ERRORS) or status in _TEMPORARY_STATUS


async def _called(
    judge: Judge, call: Callable[[], Any], meanwhile: Callable[[], None] | None = None
) -> Any:
    """What a judge's method returns, asynchronous or not."""
    with outside_the_loop():
        verdict = call()
    if inspect.iscoroutine(verdict) and not (isinstance(judge, BaseJudge) and judge.any_loop):
        return await _on_the_judges_loop(judge, verdict, meanwhile)
    if inspect.iscoroutine(verdict) and meanwhile:
        asyncio.get_running_loop().call_soon(meanwhile)  # when the question is on its way
    return await verdict if inspect.isawaitable(verdict) else verdict


async def _on_the_judges_loop(
    judge: Judge, verdict: Coroutine[Any, Any, Any], meanwhile: Callable[[], None] | None
) -> Any:
    asked = asyncio.wrap_future(_LOOP.start(_without_exit(verdict)))
    try:
        if meanwhile:
            meanwhile()
        await asyncio.wait([asked], timeout=BLOCKED_S)
        if not asked.done():
            await _warn_if_blocked(judge)
        outcome = await asked
    finally:
        asked.cancel()  # reached with an unfinished verdict if the episode was stopped
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def _without_exit(verdict: Coroutine[Any, Any, Any]) -> Any:
    """What the judge returns, or the exception with which it asks the process to end."""
    try:
        return await verdict
    except (SystemExit, KeyboardInterrupt) as error:  # raised in a task, these leave its loop
        return error


async def _warn_if_blocked(judge: Judge) -> None:
    turn = asyncio.wrap_future(_LOOP.start(asyncio.sleep(0)))
    await asyncio.wait([turn], timeout=BLOCKED_S)
    if not turn.done():
        method = "compute_rewards" if isinstance(judge, BaseGroupJudge) else "compute_reward"
        _warn_once(f"{type(judge).__name__}.{method}")


@cache
def _warn_once(name: str) -> None:
    logger.warning(
        "%s is an `async def`, but it blocks its event loop, so all other episodes "
        "wait for their rewards: make it a plain `def`, or await what it waits for",
        name,
    )


LARGEST = 1e30
"""Of a reward or a metric: float32 holds it, and float64 the squares of many."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Rewards:
    """The rewards of one episode."""

    episode: float
    """The reward as given, or the mean over agents or calls."""
    calls: np.ndarray
    """[number of calls] float64."""
    per: Literal["episode", "agent", "call"]
    """What the workflow or judge gave rewards for."""


def spread_reward(
    reward: float | list[float] | dict[str, float],
    calls: Sequence[Call],
    debug_agents: Collection[str] = (),
) -> Rewards:
    """Give each call a reward: its own, that of its agent, or that of the episode.

    Agents that are not trained may be left out; their calls get the reward of the episode.

    Args:
        reward: of the episode, of each call, or of each agent by its name.
        calls: of the episode.
        debug_agents: names of the agents that a debug model answered; a reward may name them.

    Raises:
        EpisodeError: NaN or infinite, a list of the wrong length, an agent that made no call, or
            a trained agent without a reward.
    """
    if isinstance(reward, dict):
        _check_agents(reward, calls, debug_agents)
        mean = _mean(
            [finite(value, f'the reward of agent "{name}"') for name, value in reward.items()]
        )
        credited = [reward.get(call.agent_name, mean) for call in calls]
        return Rewards(episode=mean, calls=np.array(credited, np.float64), per="agent")
    if isinstance(reward, list):
        if len(reward) != len(calls):
            raise EpisodeError(
                f"reward is a list of {len(reward)}, but the episode has {len(calls)} tracked "
                "calls: give one float per call, in call order"
            )
        mean = _mean([finite(value, f"the reward of call {i}") for i, value in enumerate(reward)])
        return Rewards(episode=mean, calls=np.array(reward, np.float64), per="call")
    value = finite(reward, "the reward")
    return Rewards(episode=value, calls=np.full(len(calls), value, np.float64), per="episode")


def _check_agents(
    reward: dict[str, float], calls: Sequence[Call], debug_agents: Collection[str]
) -> None:
    known = dict.fromkeys([*(call.agent_name for call in calls), *debug_agents])
    names = ", ".join(f'"{name}"' for name in known) or "none"
    if unknown := [name for name in reward if name not in known]:
        raise EpisodeError(
            f'reward names agent "{unknown[0]}", which made no call; agents with calls: {names}'
        )
    if missing := [c.agent_name for c in calls if c.trained and c.agent_name not in reward]:
        raise EpisodeError(
            f'reward leaves out agent "{missing[0]}", whose calls are trained; it names '
            f"{', '.join(reward) or 'none'}"
        )


def finite(value: float, what: str) -> float:
    """The value as a float, within what means and squares of many of them can be computed from.

    Raises:
        EpisodeError: NaN, infinite, or beyond `LARGEST`.
    """
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise EpisodeError(f"{what} is {value!r}; it must be a number") from error
    if not math.isfinite(value):
        raise EpisodeError(f"{what} is {value}; it must be a finite number")
    if abs(value) > LARGEST:
        raise EpisodeError(f"{what} is {value:g}; it must be between -{LARGEST:g} and {LARGEST:g}")
    return value


def _mean(values: list[float]) -> float:
    if not values:
        raise EpisodeError("an empty reward: give a number, or one reward per call or agent")
    return math.fsum(values) / len(values)
