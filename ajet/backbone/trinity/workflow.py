"""A Trinity workflow that runs a batch of AgentJet's episodes in a runner process."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ray import cloudpickle
from trinity.common.experience import Experience
from trinity.common.workflows import Workflow

from ajet.backbone.trinity.engine import TrinityEngine, rollout_models
from ajet.backbone.trinity.group_payload import GroupPayload
from ajet.backbone.trinity.mailbox import Failed, Waits, dumps, find_mailbox
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.boundary import guard_log_handlers
from ajet.schema.episode import TaskResult
from ajet.schema.task import Task
from ajet.task_rollout.rollout import Rollout
from ajet.training.episode_process import isolated
from ajet.training.episodes import make_rollout, make_runner, open_http_endpoint
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of
from ajet.training.quiet_watch import QUIET_S


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeBatch:
    """The tasks of a step that one runner runs."""

    tag: str
    """Name of the batch; the ids and seeds of its episodes derive from it."""
    tasks: list[Task]
    reader_states: list[dict[str, Any]]
    """For each task, the position in the data after it."""
    indices: list[int]
    """For each task, its place in the data; empty where the choice of tasks uses no results."""


class BatchOfEpisodes(Workflow):
    """Runs each task `num_repeat` times and writes one buffer entry per group."""

    is_async = True

    async def run_async(self) -> list[Experience]:
        """Run the batch. An error is also sent to the main process: Trinity would only log it."""
        context: TrinityRunContext = self.task.workflow_args["context"]
        batch: EpisodeBatch = self.task.raw_task["batch"]
        rollout = _rollout(context)
        started = time.perf_counter()
        telling = asyncio.create_task(_tell_of_waits(rollout, batch.tag, context))
        try:
            groups = await asyncio.to_thread(
                rollout.run, batch.tasks, num_repeat=context.ajet.rollout.num_repeat, tag=batch.tag
            )
        except BaseException as error:
            message = dumps(Failed(reason=f"{batch.tag}: {error}"))
            await find_mailbox(context.namespace).report.remote(message)
            raise
        finally:
            telling.cancel()
        rollout_s = time.perf_counter() - started
        results = [TaskResult.of(*pair) for pair in zip(groups, batch.indices, strict=False)]
        if results:  # before the batch counts as finished: the next tasks depend on them
            await find_mailbox(context.namespace).add_results.remote(cloudpickle.dumps(results))
        return [
            GroupPayload(
                group=group, reader_state=state, rollout_s=rollout_s, result=result
            ).encode()
            for group, state, result in zip_longest(groups, batch.reader_states, results)
        ]


async def _tell_of_waits(rollout: Rollout, tag: str, context: TrinityRunContext) -> None:
    """Tell the main process what episodes wait for, once they have waited for a while."""
    while True:
        await asyncio.sleep(QUIET_S / 4)
        now_s = time.time()
        waits = [one for one in rollout.waiting() if now_s - one.since_s > QUIET_S / 2]
        message = dumps(Waits(tag=tag, waits=waits))
        await find_mailbox(context.namespace).report.remote(message)


@functools.cache
def _rollout(context: TrinityRunContext) -> Rollout:
    """The rollout of this process, made once. Its HTTP endpoint stays open with the process."""
    settings = context.ajet.rollout.model_copy(
        update={"max_env_worker": context.episodes_per_runner()}
    )
    ajet = context.ajet.model_copy(update={"rollout": settings})
    guard_log_handlers()
    engine = TrinityEngine(rollout_models(context), max_model_len=context.max_model_len)
    chat_format = chat_format_of(ajet.model, context.model_folder)
    endpoint, code = open_http_endpoint(ajet), UserCode.load(context.config)
    runner = make_runner(context.config, chat_format, engine, endpoint, code, context.run_folder)
    return make_rollout(ajet, isolated(runner, context.config, context.run_folder))
