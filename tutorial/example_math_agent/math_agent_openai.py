"""The same agent written against the OpenAI SDK: a loop of a dozen lines."""

from typing import Any

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, answer_call


class MathAgent(Workflow):
    """Calls the calculator until the model answers in words."""

    name: str = "math_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask, run the tools that the model calls, ask again."""
        client = tuner.as_raw_openai_sdk_client()
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        for _ in range(tuner.config.ajet.rollout.multi_turn.max_steps):
            completion = await client.chat.completions.create(
                model="policy", messages=messages, tools=[CALCULATOR_TOOL]
            )
            message = completion.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                return WorkflowOutput(metadata={"final_answer": message.content or ""})
            for call in message.tool_calls:
                result = answer_call(call.function.arguments)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        return WorkflowOutput(metadata={"final_answer": ""})
