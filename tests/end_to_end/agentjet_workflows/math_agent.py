"""One ReActAgent with a Python tool; a judge compares the boxed number."""

import re

from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeChatFormatter
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg
from agentscope.tool import Toolkit, execute_python_code

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge
from tests.end_to_end.agentjet_workflows import brevity

SYSTEM_PROMPT = "Solve the problem. Python can compute for you. Write the number in \\boxed{}."


def boxed(text: str) -> str:
    found = re.findall(r"\\boxed\{([^{}]*)\}", text)
    return found[-1].strip() if found else ""


class MathAnswerAsJudge(BaseJudge):
    def __init__(self, config):
        self.config = config

    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool]:
        reference = workflow_task.task.metadata["answer"].split("####")[-1].strip()
        answer = workflow_output.metadata["final_answer"]
        is_success = boxed(answer) == reference
        return float(is_success) + brevity(answer), is_success


class ExampleMathLearn(Workflow):
    name: str = "math_agent_workflow"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        self.toolkit = Toolkit()
        self.toolkit.register_tool_function(execute_python_code)
        self.agent = ReActAgent(
            name="math_react_agent",
            sys_prompt=SYSTEM_PROMPT,
            model=tuner.as_agentscope_model(),
            formatter=DashScopeChatFormatter(),
            toolkit=self.toolkit,
            memory=InMemoryMemory(),
            max_iters=2,
        )
        self.agent.set_console_output_enabled(False)
        result = await self.agent.reply(Msg("user", workflow_task.task.main_query, role="user"))
        final_answer = result.get_text_content() or ""
        return WorkflowOutput(reward=None, metadata={"final_answer": final_answer})
