"""A game: the wolf is trained, the other players are answered by another model."""

import random
from typing import Literal

from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeMultiAgentFormatter
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg
from agentscope.pipeline import MsgHub
from agentscope.tool import Toolkit
from pydantic import BaseModel, Field

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tests.end_to_end.agentjet_workflows import brevity

NAMES = ("Anna", "Ben", "Cora")


class Vote(BaseModel):
    """A vote of one player."""

    vote: Literal["Anna", "Ben", "Cora"] = Field(description="who has to leave")


class ExampleWerewolves(Workflow):
    name: str = "werewolves_workflow"
    trainable_targets: list[str] | None = ["werewolf"]

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        rng = random.Random(workflow_task.task.metadata["random_number"])
        roles = ["werewolf", "villager", "villager"]
        rng.shuffle(roles)
        players = [self.player(name, role, tuner) for name, role in zip(NAMES, roles, strict=True)]
        wolf = NAMES[roles.index("werewolf")]
        moderator = Msg("moderator", "Say who you suspect.", "assistant")
        async with MsgHub(participants=players, announcement=moderator):
            said = [await player() for player in players]
        votes = []
        for player in players:
            question = Msg("moderator", "Vote now.", "user")
            answer = await player(question, structured_model=Vote)
            metadata = answer.metadata or {}
            votes.append(metadata.get("vote") or rng.choice(NAMES))
        is_success = votes.count(wolf) < 2
        words = said[roles.index("werewolf")].get_text_content() or ""
        return WorkflowOutput(
            reward=float(is_success) + brevity(words),
            is_success=is_success,
            log_metrics={"votes": [float(vote == wolf) for vote in votes]},
        )

    def player(self, name: str, role: str, tuner: AjetTuner) -> ReActAgent:
        debug_model = tuner.config.game.debug_model
        agent = ReActAgent(
            name=name,
            sys_prompt=f"You are {name}, a {role}.",
            model=tuner.as_agentscope_model(
                agent_name=name, target_tag=role, debug_model=dict(debug_model)
            ),
            formatter=DashScopeMultiAgentFormatter(),
            toolkit=Toolkit(),
            memory=InMemoryMemory(),
            max_iters=1,
        )
        agent.set_console_output_enabled(False)
        return agent
