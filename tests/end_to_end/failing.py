"""Agents whose episodes go wrong in every way that user code can."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import openai

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.math_agent_openai import MathAgent

FOREVER_S = 3600
_counter = itertools.count()


class InEveryWay(MathAgent):
    """In step 1 six of the sixteen episodes fail, and two meet a prompt that is too long."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> Any:
        if workflow_task.task_tag != "train/000001":
            return await super().execute(workflow_task, tuner)
        match next(_counter):
            case 0:
                raise ZeroDivisionError("the tool is broken")
            case 1:
                return None
            case 2:
                return WorkflowOutput(reward=float("nan"))
            case 3:
                await asyncio.sleep(FOREVER_S)
            case 4:
                time.sleep(FOREVER_S)
            case 5:
                await _ask_too_much(tuner)
            case 6:
                return await _notice_too_much(tuner)
        return await super().execute(workflow_task, tuner)


class InStepFour(MathAgent):
    """More episodes than not."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        if workflow_task.task_tag == "train/000004" and next(_counter) < 9:
            raise ConnectionError("the search service does not answer")
        return output


async def _ask_too_much(tuner: AjetTuner) -> None:
    client = tuner.as_raw_openai_sdk_client()
    content = "7 " * 3000
    await client.chat.completions.create(
        model="policy", messages=[{"role": "user", "content": content}]
    )


async def _notice_too_much(tuner: AjetTuner) -> WorkflowOutput:
    try:
        await _ask_too_much(tuner)
    except openai.BadRequestError as error:
        noticed = error.code == "context_length_exceeded" and error.status_code == 400
        return WorkflowOutput(reward=0.0, log_metrics={"noticed": float(noticed)})
    raise AssertionError("a prompt of thousands of tokens was answered")
