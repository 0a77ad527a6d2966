"""The same agent written with the OpenAI Agents SDK, which uses the Responses API."""

from agents import Agent, FunctionTool, MaxTurnsExceeded, OpenAIResponsesModel, RunConfig, Runner
from agents.tool_context import ToolContext
from openai import AsyncOpenAI

from ajet import AjetTuner, Workflow, WorkflowOutput, WorkflowTask
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT, answer_call


async def calculate(context: ToolContext, arguments: str) -> str:
    """The calculator as the SDK calls a tool."""
    return answer_call(arguments)


FUNCTION = CALCULATOR_TOOL["function"]
CALCULATOR = FunctionTool(
    name=FUNCTION["name"],
    description=FUNCTION["description"],
    params_json_schema=FUNCTION["parameters"],
    on_invoke_tool=calculate,
    strict_json_schema=False,
)


class MathAgent(Workflow):
    """Lets the SDK run the agent against the base URL of the episode."""

    name: str = "math_agent"

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Let the agent reason and call its tool until it answers."""
        llm = tuner.as_oai_baseurl_apikey()
        # Close the client with the episode: its connections belong to the episode's event loop.
        async with AsyncOpenAI(base_url=llm.base_url, api_key=llm.api_key) as client:
            agent = Agent(
                name="math_agent",
                instructions=SYSTEM_PROMPT,
                model=OpenAIResponsesModel(llm.model, client),
                tools=[CALCULATOR],
            )
            try:
                result = await Runner.run(
                    agent,
                    workflow_task.task.main_query,
                    max_turns=tuner.config.ajet.rollout.multi_turn.max_steps,
                    run_config=RunConfig(tracing_disabled=True),
                )
            except MaxTurnsExceeded:
                return WorkflowOutput(metadata={"final_answer": ""})
            return WorkflowOutput(metadata={"final_answer": result.final_output})
