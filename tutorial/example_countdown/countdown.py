"""The countdown agent: one call, in which the model tries expressions until one fits."""

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

SYSTEM_PROMPT = r"""
Combine the given numbers with + - * / and parentheses so that they make the target.
Use every number exactly once.
Try out expressions step by step, and write the final one in a box, like \boxed{(a + b) * c}.
""".strip()


def question(numbers: list[int], target: int) -> str:
    """The user's message."""
    return f"Numbers: {' '.join(map(str, numbers))}\nTarget: {target}"


class CountdownAgent(Workflow):
    """Answers one task; the judge named in the YAML checks the answer."""

    name: str = "countdown_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask once, and report how many expressions were tried."""
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        client = tuner.as_raw_openai_sdk_client()
        completion = await client.chat.completions.create(model="policy", messages=messages)
        answer = completion.choices[0].message.content or ""
        return WorkflowOutput(
            metadata={"final_answer": answer},
            log_metrics={"attempts": float(answer.count("\n"))},
        )
