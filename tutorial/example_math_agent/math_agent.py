"""The math agent: AgentScope's ReActAgent with a calculator, unchanged."""

from agentscope.agent import ReActAgent
from agentscope.formatter import OpenAIChatFormatter
from agentscope.message import Msg
from agentscope.tool import Toolkit

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import SYSTEM_PROMPT, calculator


class MathAgent(Workflow):
    """Answers one question; the judge named in the YAML compares the answer with the task's."""

    name: str = "math_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Let the agent reason and call its tool until it answers."""
        toolkit = Toolkit()
        toolkit.register_tool_function(calculator)
        agent = ReActAgent(
            name="math_agent",
            sys_prompt=SYSTEM_PROMPT,
            model=tuner.as_agentscope_model(),
            formatter=OpenAIChatFormatter(),
            toolkit=toolkit,
            max_iters=tuner.config.ajet.rollout.multi_turn.max_steps,
        )
        agent.set_console_output_enabled(False)
        answer = await agent(Msg("user", workflow_task.task.main_query, "user"))
        return WorkflowOutput(metadata={"final_answer": answer.get_text_content() or ""})
