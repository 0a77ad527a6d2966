"""The frozen lake agent: one move per call, with the whole walk as its history."""

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask

SYSTEM_PROMPT = """
You walk over a frozen lake, seen from above: P is you, _ is ice, O is a hole, G is the goal.
Reach the goal without falling into a hole. Rows are numbered from the top.
You may think first. End your answer with one move: left, down, right or up.
""".strip()


class FrozenLakeAgent(Workflow):
    """Walks until the environment says that the walk is over, or the moves are used up."""

    name: str = "frozen_lake_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Show the lake, move, look again. The reward is the sum of the environment's rewards."""
        client = tuner.as_raw_openai_sdk_client()
        lake = workflow_task.gym_env
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, *workflow_task.task.init_messages]
        reward, moves, is_over = 0.0, 0, False
        while not is_over and moves < tuner.config.ajet.rollout.multi_turn.max_steps:
            completion = await client.chat.completions.create(model="policy", messages=messages)
            action = {"role": "assistant", "content": completion.choices[0].message.content or ""}
            seen, step_reward, is_over, _ = await lake.step_async(action)
            messages += [action, {"role": "user", "content": seen}]
            reward, moves = reward + step_reward, moves + 1
        fell = is_over and reward == 0
        return WorkflowOutput(
            reward=reward,
            is_success=reward > 0,
            log_metrics={"moves": float(moves), "fell": float(fell)},
        )
