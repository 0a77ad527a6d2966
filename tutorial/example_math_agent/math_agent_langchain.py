"""The same agent written with LangChain's chat model."""

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, evaluate


class MathAgent(Workflow):
    """Calls the calculator until the model answers in words."""

    name: str = "math_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Ask, run the tools that the model calls, ask again."""
        model = tuner.as_langchain_model().bind_tools([CALCULATOR_TOOL])
        messages: list[BaseMessage] = [
            SystemMessage(SYSTEM_PROMPT),
            HumanMessage(workflow_task.task.main_query),
        ]
        for _ in range(tuner.config.ajet.rollout.multi_turn.max_steps):
            answer = await model.ainvoke(messages)
            messages.append(answer)
            if not answer.tool_calls:
                return WorkflowOutput(metadata={"final_answer": answer.text})
            for call in answer.tool_calls:
                result = evaluate(str(call["args"].get("expression")))
                messages.append(ToolMessage(result, tool_call_id=call["id"]))
        return WorkflowOutput(metadata={"final_answer": ""})
