"""The demo's agent over HTTP, so that a run of the campaign listens as a run with agents does."""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, answer_call


class MathAgentOverHttp(Workflow):
    """Calls the calculator until the model answers in words."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        given = tuner.as_oai_baseurl_apikey()
        messages: list[Any] = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        async with AsyncOpenAI(base_url=given.base_url, api_key=given.api_key) as client:
            for _ in range(tuner.config.ajet.rollout.multi_turn.max_steps):
                completion = await client.chat.completions.create(
                    model=given.model, messages=messages, tools=[CALCULATOR_TOOL]
                )
                message = completion.choices[0].message
                messages.append(message.model_dump(exclude_none=True))
                if not message.tool_calls:
                    return WorkflowOutput(metadata={"final_answer": message.content or ""})
                for call in message.tool_calls:
                    result = answer_call(call.function.arguments)
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        return WorkflowOutput(metadata={"final_answer": ""})
