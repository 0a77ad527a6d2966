"""The Python tool and the system prompt of the agent that writes programs.

Programs run in AgentJet's sandbox: without network and files, one CPU second and five seconds at
most.
"""

import json
import zlib
from dataclasses import dataclass
from typing import Any

from ajet.sandbox import Limits, PythonSandbox

SYSTEM_PROMPT = """
Write a short Python program that computes the result, and print the result.
Read what the program printed. Then give Answer: number
""".strip()

PYTHON_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "execute_python_code",
        "description": "Run a Python program and return what it prints.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The program."}},
            "required": ["code"],
        },
    },
}
NAME = PYTHON_TOOL["function"]["name"]
NO_OUTPUT = "error: the program printed nothing"

_LIMITS = Limits(output_bytes=2_000)  # more would only fill the model's context
_SANDBOXES = [PythonSandbox(_LIMITS) for _ in range(4)]
"""Programs of different episodes run at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What the agent reads after a call."""

    text: str
    is_wrong_call: bool
    """The call has no program, or its program fails, prints nothing or is ended by a limit."""


def answer_call(name: str, arguments: str) -> ToolResult:
    """Run the program in a tool call, whatever the model wrote as its arguments."""
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):  # no JSON, or thousands of brackets
        parsed = None
    code = parsed.get("code") if isinstance(parsed, dict) else None
    if name != NAME or not isinstance(code, str):
        text = f'error: expected {NAME} with {{"code": "a program"}}'
        return ToolResult(text=text, is_wrong_call=True)
    result = _SANDBOXES[zlib.crc32(repr(code).encode()) % len(_SANDBOXES)].run(code)
    output = result.output.strip()
    if result.ended_by == "end" and output:
        return ToolResult(text=output, is_wrong_call=False)
    if result.ended_by == "error":
        return ToolResult(text=f"error: {output.splitlines()[-1]}", is_wrong_call=True)
    if result.ended_by == "end":
        return ToolResult(text=NO_OUTPUT, is_wrong_call=True)
    if result.ended_by == "killed":
        return ToolResult(text="error: the program crashed", is_wrong_call=True)
    return ToolResult(text=f"error: ended by its limit of {result.ended_by}", is_wrong_call=True)
