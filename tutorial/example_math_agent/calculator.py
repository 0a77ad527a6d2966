"""The calculator agent's tool and system prompt, the same for every client.

`calculator` is the tool as AgentScope's `Toolkit` takes it. `CALCULATOR_TOOL` is the JSON schema
that `Toolkit.get_json_schemas()` makes of it, key order included, for a plain OpenAI client: the
schema is part of the prompt, so another order or wording would make other tokens.
"""

import json
import re
from typing import TYPE_CHECKING, Any

from tutorial.example_math_agent.problems import apply

if TYPE_CHECKING:
    from agentscope.tool import ToolResponse

SYSTEM_PROMPT = "Use the calculator, one operation per call. Then give Answer: number"

CALCULATOR_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "parameters": {
            "properties": {
                "expression": {
                    "description": "Number, operator (+ - *), number.",
                    "type": "string",
                },
            },
            "required": ["expression"],
            "type": "object",
        },
        "description": "Evaluate one arithmetic operation.",
    },
}

ERROR = "error: expected one operation like 7 + 5"


def evaluate(expression: str) -> str:
    """The value of `a op b` for integers a and b and op one of + - *, or `ERROR`."""
    match = re.fullmatch(r"\s*(-?\d{1,9})\s*([+\-*])\s*(-?\d{1,9})\s*", str(expression), re.ASCII)
    return str(apply(int(match[1]), match[2], int(match[3]))) if match else ERROR


def answer_call(arguments: str) -> str:
    """The tool's result for the JSON that a model wrote as the call's arguments."""
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):  # no JSON, or thousands of brackets
        return ERROR
    return evaluate(parsed.get("expression") if isinstance(parsed, dict) else "")


def calculator(expression: str) -> "ToolResponse":
    """Evaluate one arithmetic operation.

    Args:
        expression: Number, operator (+ - *), number.
    """
    from agentscope.message import TextBlock
    from agentscope.tool import ToolResponse

    return ToolResponse(content=[TextBlock(type="text", text=evaluate(expression))])
