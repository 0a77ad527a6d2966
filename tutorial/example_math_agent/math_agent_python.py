"""The math agent that writes a Python program, runs it in a sandbox, and reads what it printed."""

from typing import Any

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.python_tool import PYTHON_TOOL, SYSTEM_PROMPT, answer_call


class MathAgent(Workflow):
    """Runs programs until the model answers in words."""

    name: str = "math_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask, run the program that the model calls, ask again; count calls and wrong calls."""
        client = tuner.as_raw_openai_sdk_client()
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        calls, wrong, answer = 0, 0, ""
        for _ in range(tuner.config.ajet.rollout.multi_turn.max_steps):
            completion = await client.chat.completions.create(
                model="policy", messages=messages, tools=[PYTHON_TOOL]
            )
            message = completion.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                answer = message.content or ""
                break
            for call in message.tool_calls:
                result = answer_call(call.function.name, call.function.arguments)
                calls, wrong = calls + 1, wrong + result.is_wrong_call
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result.text})
        return WorkflowOutput(
            metadata={"final_answer": answer},
            log_metrics={"calls": float(calls), "wrong_calls": float(wrong)},
        )
