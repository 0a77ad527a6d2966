"""A loop of the workflow's own on a map; its settings are a section of its own in the YAML."""

import random
import re

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tests.end_to_end.agentjet_workflows import brevity

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


class FrozenLakeEnv:
    def __init__(self, size: int, is_slippery: bool, seed: int) -> None:
        self.rng = random.Random(seed)
        self.size, self.is_slippery = size, is_slippery
        cells = [(row, column) for row in range(size) for column in range(size)][1:-1]
        self.holes = set(self.rng.sample(cells, size - 2))
        self.place = (0, 0)

    def step(self, move: str) -> tuple[str, float, bool]:
        if move in MOVES:
            if self.is_slippery and self.rng.random() < 1 / 3:
                move = self.rng.choice(list(MOVES))
            step = zip(self.place, MOVES[move], strict=True)
            row, column = (min(self.size - 1, max(0, a + b)) for a, b in step)
            self.place = (row, column)
        is_goal = self.place == (self.size - 1, self.size - 1)
        return str(self), float(is_goal), is_goal or self.place in self.holes

    def __str__(self) -> str:
        goal = (self.size - 1, self.size - 1)

        def symbol(cell: tuple[int, int]) -> str:
            if cell == self.place:
                return "P"
            return "O" if cell in self.holes else "G" if cell == goal else "_"

        rows = range(self.size)
        return "\n".join(" ".join(symbol((row, column)) for column in rows) for row in rows)


class FrozenLakeAgent:
    def __init__(self, client) -> None:
        self.client = client
        self.messages = [{"role": "system", "content": "Reach G, avoid O. One move in ``` ```."}]

    async def act(self, observation: str) -> tuple[str, str]:
        self.messages.append({"role": "user", "content": observation})
        # Without a model and with positional messages, as clients of AgentJet allow.
        completion = await self.client.chat.completions.create(self.messages)
        text = completion.choices[0].message.content or ""
        self.messages.append({"role": "assistant", "content": text})
        move = re.search(r"```\s*(\w+)\s*```", text)
        return text, move[1].lower() if move else "still"


class FrozenLakeWorkflow(Workflow):
    name: str = "frozen_lake_workflow"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        own = tuner.config.frozen_lake
        seed = workflow_task.task.metadata["random_number"]
        env = FrozenLakeEnv(own.frozen_lake_size, own.is_slippery, seed)
        agent = FrozenLakeAgent(tuner.as_raw_openai_sdk_client())
        observation, total, words = str(env), 0.0, ""
        for _ in range(tuner.config.ajet.rollout.multi_turn.max_steps):
            if tuner.get_context_tracker().context_overflow:
                break
            text, move = await agent.act(observation)
            words += text
            observation, reward, is_over = env.step(move)
            total += reward
            if is_over:
                break
        return WorkflowOutput(
            reward=total + brevity(words),
            is_success=total > 0,
            metadata={"terminate_reason": "success" if total > 0 else "lost"},
        )
