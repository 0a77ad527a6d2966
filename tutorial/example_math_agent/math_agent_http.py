"""The same agent without a model library: plain HTTP with blocking calls.

Any program that can make HTTP requests can be an agent. Each episode has a thread of its own, so
`requests.post` may block here; an agent that awaits several things at once should not use it.
"""

from typing import Any

import requests

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, answer_call


class MathAgent(Workflow):
    """Calls the calculator until the model answers in words."""

    name: str = "math_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask, run the tools that the model calls, ask again."""
        llm = tuner.as_oai_baseurl_apikey()
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        for _ in range(tuner.config.ajet.rollout.multi_turn.max_steps):
            response = requests.post(
                f"{llm.base_url}/chat/completions",
                headers={"Authorization": f"Bearer {llm.api_key}"},
                json={"model": llm.model, "messages": messages, "tools": [CALCULATOR_TOOL]},
                timeout=600,
            )
            response.raise_for_status()
            message = response.json()["choices"][0]["message"]
            messages.append(message)
            if not message.get("tool_calls"):
                return WorkflowOutput(metadata={"final_answer": message["content"] or ""})
            for call in message["tool_calls"]:
                result = answer_call(call["function"]["arguments"])
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        return WorkflowOutput(metadata={"final_answer": ""})
