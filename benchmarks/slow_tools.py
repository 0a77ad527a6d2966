"""The math agent where one episode in so many waits long for its environment."""

from __future__ import annotations

import asyncio
import zlib

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.math_agent_openai import MathAgent

LONG_S, SHORT_S = 8.0, 0.25
ONE_IN = 16


class SlowMathAgent(MathAgent):
    """Sleeps first: the long tail of real environments, without their work."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """The same for the same episode, whatever the mode."""
        draw = zlib.crc32(workflow_task.episode_uuid.encode()) % ONE_IN
        await asyncio.sleep(SHORT_S if draw else LONG_S)
        return await super().execute(workflow_task, tuner)
