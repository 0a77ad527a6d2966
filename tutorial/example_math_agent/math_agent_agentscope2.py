"""The math agent with AgentScope 2.x, where the agent's class is `Agent`."""

from agentscope.agent import Agent, InjectionConfig, ReActConfig
from agentscope.message import TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, ToolChunk, Toolkit

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, evaluate


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
            toolkit=Toolkit([make_tool()]),
            react_config=ReActConfig(max_iters=max_steps),
            # Else every prompt holds the time of day, and no two runs have the same tokens.
            injection_config=InjectionConfig(inject_runtime_state=False),
        )
        answer = await agent.reply(UserMsg("user", workflow_task.task.main_query))
        return WorkflowOutput(metadata={"final_answer": answer.get_text_content() or ""})


def make_tool() -> FunctionTool:
    """The calculator, which may be called without asking anybody."""
    function = CALCULATOR_TOOL["function"]
    return FunctionTool(
        calculator,
        description=function["description"],
        input_schema=function["parameters"],
        permission=PermissionDecision(behavior=PermissionBehavior.ALLOW, message="harmless"),
    )


def calculator(expression: str) -> ToolChunk:
    """The calculator in the shape of AgentScope 2.x."""
    return ToolChunk(content=[TextBlock(text=evaluate(expression))])
