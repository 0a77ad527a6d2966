"""The math agent with AgentScope 2.x, where the agent's class is `Agent`.

AgentScope 2.x puts a tool's description before its parameters, which makes another prompt. A large
model handles both orders. The tiny model was trained with the other order only, and solves almost
nothing here.
"""

from agentscope.agent import Agent, InjectionConfig, ReActConfig
from agentscope.message import TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, evaluate


def calculator(expression: str) -> ToolChunk:
    """The calculator as AgentScope 2.x calls a tool."""
    return ToolChunk(content=[TextBlock(text=evaluate(expression))])


CALCULATOR = FunctionTool(
    calculator,
    description=CALCULATOR_TOOL["function"]["description"],
    input_schema=CALCULATOR_TOOL["function"]["parameters"],
    permission=PermissionDecision(behavior=PermissionBehavior.ALLOW, message="harmless"),
)


class MathAgent(Workflow):
    """Answers one question; the judge named in the YAML compares the answer with the task's."""

    name: str = "math_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Let the agent reason and call its tool until it answers."""
        max_steps = tuner.config.ajet.rollout.multi_turn.max_steps
        agent = Agent(
            name="math_agent",
            system_prompt=SYSTEM_PROMPT,
            model=tuner.as_agentscope_model(),
            toolkit=Toolkit([CALCULATOR]),
            react_config=ReActConfig(max_iters=max_steps),
            # Otherwise prompts contain the time of day, and no two runs have the same tokens.
            injection_config=InjectionConfig(inject_runtime_state=False),
        )
        answer = await agent.reply(UserMsg("user", workflow_task.task.main_query))
        return WorkflowOutput(metadata={"final_answer": answer.get_text_content() or ""})
