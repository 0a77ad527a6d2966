"""A runner's share of a step as Trinity's workflow: our episodes, many at once."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass
from typing import Any

from trinity.common.experience import Experience
from trinity.common.workflows import Workflow

from ajet.backbone.trinity.engine import TrinityEngine, rollout_models
from ajet.backbone.trinity.group_payload import GroupPayload, pack
from ajet.backbone.trinity.mailbox import dumps, find_mailbox
from ajet.backbone.trinity.mailbox_messages import Failed
from ajet.backbone.trinity.plan import TrinityRunContext
from ajet.schema.task import Task
from ajet.task_rollout.rollout import Rollout
from ajet.training.episodes import make_rollout, make_runner, open_http_endpoint
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeBatch:
    """Tasks for one runner."""

    tag: str
    """Names the batch; ids and seeds of the episodes derive from it."""
    tasks: list[Task]
    reader_states: list[dict[str, Any]]
    """Position in the data after each task."""


class BatchOfEpisodes(Workflow):
    """Every task of a batch as often as a group has episodes; one entry of the buffer a group."""

    is_async = True

    async def run_async(self) -> list[Experience]:
        """Run all of it. What ends it is told to the main process: Trinity would only log it."""
        plan: TrinityRunContext = self.task.workflow_args["plan"]
        batch: EpisodeBatch = self.task.raw_task["batch"]
        rollout = _rollout(plan)
        started = time.perf_counter()
        try:
            groups = await asyncio.to_thread(
                rollout.run, batch.tasks, num_repeat=plan.ajet.rollout.num_repeat, tag=batch.tag
            )
        except BaseException as error:
            letter = dumps(Failed(message=f"{batch.tag}: {error}"))
            await find_mailbox(plan.namespace).report.remote(letter)
            raise
        rollout_s = time.perf_counter() - started
        return [
            pack(GroupPayload(group=group, reader_state=state, rollout_s=rollout_s))
            for group, state in zip(groups, batch.reader_states, strict=True)
        ]


@functools.cache
def _rollout(plan: TrinityRunContext) -> Rollout:
    """Of this process. Its HTTP door lives as long."""
    settings = plan.ajet.rollout.model_copy(update={"max_env_worker": plan.episodes_at_a_time()})
    ajet = plan.ajet.model_copy(update={"rollout": settings})
    engine = TrinityEngine(rollout_models(plan), max_model_len=plan.max_model_len)
    chat_format = chat_format_of(ajet.model, plan.model_folder)
    endpoint, code = open_http_endpoint(ajet), UserCode.load(plan.config)
    runner = make_runner(plan.config, chat_format, engine, endpoint, code, plan.run_folder)
    return make_rollout(ajet, runner)
