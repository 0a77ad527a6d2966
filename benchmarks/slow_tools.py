"""The math agent with a slow environment: a few episodes wait long."""

from __future__ import annotations

import asyncio
import zlib

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.math_agent_openai import MathAgent

LONG_S, SHORT_S = 8.0, 0.25
ONE_IN = 16


class SlowMathAgent(MathAgent):
    """Sleeps first, as an episode with a slow environment would, but without using the CPU."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Sleep as long as the episode's id says, the same in both modes, then run the agent."""
        draw = zlib.crc32(workflow_task.episode_uuid.encode()) % ONE_IN
        await asyncio.sleep(SHORT_S if draw else LONG_S)
        return await super().execute(workflow_task, tuner)
