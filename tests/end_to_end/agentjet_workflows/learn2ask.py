"""A doctor's assistant asks or stops; the workflow itself asks another model for the grade."""

from agentscope.agent import ReActAgent
from agentscope.formatter import DashScopeChatFormatter
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg
from agentscope.tool import Toolkit

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from ajet.task_rollout.dashscope_llm_bridge import create_external_llm_fn
from tests.end_to_end.agentjet_workflows import brevity

SYSTEM_PROMPT = "You help a doctor. Ask one question with two choices, or write <stop />."


class ExampleLearn2Ask(Workflow):
    name: str = "learn2ask_workflow"
    trainable_targets: list[str] | None = ["doctor"]

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        task = workflow_task.task
        self.agent = ReActAgent(
            name="doctor",
            sys_prompt=SYSTEM_PROMPT,
            model=tuner.as_agentscope_model(agent_name="doctor", target_tag="doctor"),
            formatter=DashScopeChatFormatter(),
            toolkit=Toolkit(),
            memory=InMemoryMemory(),
            max_iters=1,
        )
        self.agent.set_console_output_enabled(False)
        messages = [Msg(m["role"], m["content"], role=m["role"]) for m in task.init_messages]
        answer = (await self.agent.reply(messages)).get_text_content() or ""
        wants_to_stop = "<stop />" in answer
        is_right = wants_to_stop == (task.metadata["decision_truth"] == "stop")
        ask = create_external_llm_fn(alien_llm_model="grader", alien_llm_response_length=64)
        grade = ask([{"role": "user", "content": f"Grade from 0 to 1: {answer[:200]}"}])
        content = 1.0 if "good" in grade["content"] else 0.0
        reward = float(is_right) * (1 + 2 * content) + brevity(answer)
        return WorkflowOutput(
            reward=reward, is_success=is_right, metadata={"diagnosis": task.metadata["diagn"]}
        )
