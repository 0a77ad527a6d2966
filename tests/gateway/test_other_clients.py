"""Client libraries that cannot share our environment, over HTTP from one of their own.

`make .venv-clients` installs LiteLLM and Instructor; without it these tests are skipped. What each
library sends by itself and for well-known models is accepted, and its answer is the policy's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ajet.engine.scripted import ScriptedEngine
from tests.gateway.server_fakes import CHAT_FORMAT, TOKENIZER, serving

PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs make .venv-clients"),
]
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'

LITELLM = """
import json, sys
import litellm
url, key = sys.argv[1:]
to, hello = {"api_base": url, "api_key": key}, [{"role": "user", "content": "1 + 1?"}]
schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
tools = [{"type": "function", "function": {"name": "add", "parameters": schema}}]
hints = {"reasoning_effort": "low", "verbosity": "low", "user": "me", "store": True}
ask = lambda **more: litellm.completion(model="openai/gpt-5", messages=hello, **to, **more)
answers = [
    ask(max_completion_tokens=50, service_tier="flex", **hints).choices[0].message.content,
    ask(tools=tools).choices[0].message.tool_calls[0].function.arguments,
    "".join(part.choices[0].delta.content or "" for part in ask(stream=True)),
]
body = litellm.responses(model="openai/gpt-5", input="1 + 1?", reasoning={"effort": "low"}, **to)
answers.append(body.output[-1].content[0].text)
to["api_base"] = url.removesuffix("/v1")
message = litellm.completion(model="anthropic/claude-sonnet-4-5", messages=hello, max_tokens=2000,
    reasoning_effort="low", **to)
answers.append(message.choices[0].message.content)
print(json.dumps(answers))
"""

INSTRUCTOR = """
import json, sys
import instructor
from openai import OpenAI
from pydantic import BaseModel
class Sum(BaseModel):
    a: int
url, key = sys.argv[1:]
found = []
for mode in ("TOOLS", "JSON", "JSON_SCHEMA", "MD_JSON"):
    client = instructor.from_openai(OpenAI(base_url=url, api_key=key), mode=instructor.Mode[mode])
    answer = client.chat.completions.create(model="policy", response_model=Sum, max_retries=1,
        messages=[{"role": "user", "content": "1 + 1?"}])
    found.append(answer.a)
print(json.dumps(found))
"""


def talk(program: str, texts: Sequence[str]) -> tuple[Any, list[str]]:
    """What a program prints whose model says `texts`, and the prompts that it sent."""
    engine = ScriptedEngine.from_texts(TOKENIZER, texts, stop_id=CHAT_FORMAT.stop_token_ids[0])
    with serving(engine) as served:
        _, endpoint = served.episode()
        command = [str(PYTHON), "-c", program, endpoint.base_url, endpoint.api_key]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    prompts = [TOKENIZER.decode(request.prompt_ids) for request in engine.requests]
    return json.loads(done.stdout.splitlines()[-1]), prompts


def test_litellm_in_three_wire_apis_with_what_it_sends_for_well_known_models(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers, prompts = talk(LITELLM, ["2", CALL, "two", "2.", "II"])
    assert [answers[0], json.loads(answers[1]), *answers[2:]] == ["2", {"a": 1}, "two", "2.", "II"]
    assert all("1 + 1?" in prompt for prompt in prompts)
    noticed = " ".join(text for text in caplog.messages if "without effect" in text)
    assert "reasoning_effort" in noticed
    assert "service_tier" in noticed


def test_instructor_in_all_its_modes_and_when_it_asks_again() -> None:
    wrong, right = '{"a": "many"}', '{"a": 2}'
    forced = f" {right}}}\n</tool_call>"  # the call begins in the prompt
    texts = [forced, right, wrong, right, f"```json\n{right}\n```"]
    answers, prompts = talk(INSTRUCTOR, texts)
    assert answers == [2, 2, 2, 2]
    assert "validation error" in prompts[3], "the library says what was wrong with the answer"
