"""An agent acts on an environment service: each completion is an action, until it is over."""

from agentscope.formatter import DashScopeChatFormatter
from agentscope.message import Msg

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask


class ExampleAgentScopeWorkflow(Workflow):
    name: str = "app_world_workflow"
    trainable_targets: list[str] | None = ["app_agent"]

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        first_messages = workflow_task.task.init_messages
        env = workflow_task.gym_env
        model = tuner.as_agentscope_model(agent_name="app_agent", target_tag="app_agent")
        formatter = DashScopeChatFormatter()
        history = [
            Msg(name=message["role"], content=message["content"], role=message["role"])
            for message in first_messages
        ]
        tracker = tuner.get_context_tracker()
        num_steps, is_over = 0, False
        for _ in range(tuner.config.ajet.rollout.multi_turn.max_steps):
            if is_over or tracker.context_overflow:
                break
            answer = await model(await formatter.format(history))
            text = "".join(part["text"] for part in answer.content if part["type"] == "text")
            history.append(Msg(name="app_agent", content=text, role="assistant"))
            obs, _, is_over, _ = env.step({"role": "assistant", "content": text})
            history.append(Msg(name="env", content=str(obs), role="user"))
            num_steps += 1
        return WorkflowOutput(
            reward=None,
            metadata={"main_query": workflow_task.task.main_query},
            log_metrics={"num_steps": num_steps, "tool_stats": {"calls": num_steps}},
        )
