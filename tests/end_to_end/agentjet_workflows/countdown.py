"""A ReActAgent without tools writes an expression; a judge checks it."""

import ast
import operator
import re

from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeChatFormatter
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg
from agentscope.tool import Toolkit

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge
from tests.end_to_end.agentjet_workflows import brevity

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def value_of(expression: str) -> tuple[int, list[int]] | None:
    """The value and the numbers of an expression; None if it is none."""

    def walk(node: ast.AST) -> tuple[int, list[int]]:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value, [node.value]
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
            (left, those), (right, others) = walk(node.left), walk(node.right)
            return OPERATIONS[type(node.op)](left, right), those + others
        raise ValueError(ast.dump(node))

    try:
        return walk(ast.parse(expression, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError):
        return None


class CountdownAnswerAsJudge(BaseJudge):
    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool]:
        metadata = workflow_task.task.metadata
        answer = workflow_output.metadata["final_answer"]
        found = re.findall(r"\\boxed\{([^{}]*)\}", answer)
        if not found:
            return brevity(answer), False
        value = value_of(found[-1])
        is_success = (
            value is not None
            and value[0] == metadata["target"]
            and sorted(value[1]) == sorted(metadata["nums"])
        )
        return (1.0 if is_success else 0.1) + brevity(answer), is_success


class ExampleCountdownLearn(Workflow):
    name: str = "countdown_workflow"
    trainable_targets: list[str] | None = ["countdown_agent"]

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        metadata = workflow_task.task.metadata
        self.agent = ReActAgent(
            name="countdown_agent",
            sys_prompt="Reach the target; use each number once. Write it in \\boxed{}.",
            model=tuner.as_agentscope_model(
                agent_name="countdown_agent", target_tag="countdown_agent"
            ),
            formatter=DashScopeChatFormatter(),
            toolkit=Toolkit(),
            memory=InMemoryMemory(),
            max_iters=2,
        )
        self.agent.set_console_output_enabled(False)
        query = f"Target: {metadata['target']}. Numbers: {metadata['nums']}."
        result = await self.agent.reply(Msg("user", query, role="user"))
        return WorkflowOutput(metadata={"final_answer": result.get_text_content() or ""})
