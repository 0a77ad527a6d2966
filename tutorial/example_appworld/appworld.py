"""The app agent: it writes one call at a time, reads the result, and completes the task."""

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

SYSTEM_PROMPT = """
You act for a person through the apps of their phone. Write one call per message, nothing else.
docs.show(app) lists the calls of an app. The apps are notes, mail and wallet.
Mail and wallet need a token: log in with the password, which is in a note.
When everything is done, call complete_task().
""".strip()


class AppWorldAgent(Workflow):
    """Acts until the environment ends the episode; the environment's score is the reward."""

    name: str = "appworld_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Call, read, call again. Stops when the context is full."""
        client = tuner.as_raw_openai_sdk_client()
        apps = workflow_task.gym_env
        messages = list(workflow_task.task.init_messages)
        if messages[0]["role"] != "system":  # the real AppWorld's service brings its own
            messages.insert(0, {"role": "system", "content": SYSTEM_PROMPT})
        calls, refused = 0, 0
        while calls < tuner.config.ajet.rollout.multi_turn.max_steps:
            completion = await client.chat.completions.create(model="policy", messages=messages)
            action = {"role": "assistant", "content": completion.choices[0].message.content or ""}
            seen, _, is_over, info = await apps.step_async(action)
            messages += [action, {"role": "user", "content": seen}]
            calls, refused = calls + 1, refused + bool(info.get("is_refused"))
            if is_over:
                break
        score = apps.evaluate(workflow_task.episode_uuid, {})
        return WorkflowOutput(
            reward=score,
            is_success=score >= 1,
            log_metrics={"calls": float(calls), "refused_calls": float(refused)},
        )
