"""A doctor's assistant: it reads a conversation, and asks one question or stops."""

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

SYSTEM_PROMPT = """
You assist a doctor. You read a conversation with a patient.
If a fact that the doctor needs is missing, ask one question about it, with two or three choices.
If nothing is missing, answer <stop /> and nothing else.
""".strip()
STOP = "<stop />"


class LearnToAsk(Workflow):
    """Answers once; the judge named in the YAML scores the answer."""

    name: str = "learn_to_ask"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask or stop, and report both kinds of mistake."""
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": workflow_task.task.main_query},
        ]
        client = tuner.as_raw_openai_sdk_client()
        completion = await client.chat.completions.create(model="policy", messages=messages)
        answer = completion.choices[0].message.content or ""
        has_stopped = STOP in answer
        has_asked = not has_stopped and bool(answer.strip())
        must_stop = workflow_task.task.metadata["decision_truth"] == "stop"
        return WorkflowOutput(
            metadata={"final_answer": answer},
            log_metrics={
                "asked_too_long": float(must_stop and has_asked),
                "stopped_too_early": float(has_stopped and not must_stop),
            },
        )
