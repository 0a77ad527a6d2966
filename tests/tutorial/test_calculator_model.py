"""The demo's tiny model and its data.

1. The tool's schema is the one that AgentScope derives, and both doors send the same tokens.
2. Tasks are a function of their seed; no question is in two splits; the shipped files are these.
3. The shipped folder is what its RECIPE.json tells of, small, and loads without extras.
4. The ids that the gateway renders, call by call, are the ids that the model was trained on.
5. (slow) The recipe makes a model as good as the shipped one; with the same packages on the same
   kind of CPU it is that model, bit for bit.
"""

import asyncio
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tutorial.example_math_agent.calculator import (
    CALCULATOR_TOOL,
    ERROR,
    SYSTEM_PROMPT,
    calculator,
    evaluate,
)
from tutorial.example_math_agent.problems import (
    NUM_TRAIN,
    NUM_VALIDATION,
    Split,
    generate,
    make_problem,
    read_answer,
    write_jsonl,
)

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("renderers")

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "ajet" / "tiny_model" / "calculator"
DATA = ROOT / "tutorial" / "example_math_agent" / "data"
RECIPE: dict[str, Any] = json.loads((MODEL / "RECIPE.json").read_text())


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The shipped tokenizer as transformers loads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def conversations() -> list[list[dict[str, Any]]]:
    """Demonstrations of every habit on problems that no model was trained on."""
    from tutorial.example_math_agent.tiny_model.demonstrations import Habits, demonstrate

    habits = Habits(right=0.4, guess=0.2, stop_early=0.2, wrong_operator=0.2)
    rng = random.Random(0)
    problems = generate({Split.VALIDATION: 40})[Split.VALIDATION]
    return [demonstrate(problem, habits, rng).messages for problem in problems]


# 1. The tool


@pytest.mark.parametrize(
    ("expression", "value"),
    [("19 - 4", "15"), ("4-19", "-15"), (" 7*8 ", "56"), ("-3 + 5", "2")],
)
def test_calculator_does_one_operation(expression: str, value: str) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize("expression", ["", "19", "1 + 2 + 3", "8 / 2", "x + 1", "٣ + 1", None])
def test_calculator_answers_anything_else_with_an_error(expression: Any) -> None:
    assert evaluate(expression) == ERROR


def test_tool_schema_is_the_one_that_agentscope_derives() -> None:
    tool = pytest.importorskip("agentscope.tool")
    toolkit = tool.Toolkit()
    toolkit.register_tool_function(calculator)
    assert json.dumps(toolkit.get_json_schemas()) == json.dumps([CALCULATOR_TOOL])


def test_agentscope_and_a_plain_client_send_the_same_tokens(tokenizer: Any) -> None:
    pytest.importorskip("agentscope")
    from tutorial.example_math_agent.tiny_model.rollout import TOOLS
    from tutorial.tiny_models.tokenizer import make_renderer

    renderer = make_renderer(tokenizer)
    question = make_problem(0).question
    requests = asyncio.run(_agentscope_requests(question))
    plain = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": question},
        _tool_call("19 - 4"),
        {"role": "tool", "content": "15"},
        _tool_call("15 * 2"),
        {"role": "tool", "content": "30"},
    ]
    assert len(requests) == 3
    for request, length in zip(requests, (2, 4, 6), strict=True):
        sent = renderer.render_ids(
            request["messages"], tools=request["tools"], add_generation_prompt=True
        )
        assert sent == renderer.render_ids(plain[:length], tools=TOOLS, add_generation_prompt=True)


async def _agentscope_requests(question: str) -> list[dict[str, Any]]:
    """What a ReActAgent sends, while a script answers: two tool calls, then a text."""
    from agentscope.agent import ReActAgent
    from agentscope.formatter import OpenAIChatFormatter
    from agentscope.message import Msg
    from agentscope.model import OpenAIChatModel
    from agentscope.tool import Toolkit
    from openai.types.chat import ChatCompletion

    script = [_tool_call("19 - 4"), _tool_call("15 * 2"), {"content": "Answer: 30"}]
    requests: list[dict[str, Any]] = []

    async def create(**request: Any) -> ChatCompletion:
        requests.append(json.loads(json.dumps(request)))
        message = {"role": "assistant", **script[len(requests) - 1]}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        completion = {"id": "x", "object": "chat.completion", "created": 0, "model": "x"}
        return ChatCompletion.model_validate(completion | {"choices": choices})

    model = OpenAIChatModel("x", api_key="x", stream=False)
    model.client.chat.completions.create = create
    toolkit = Toolkit()
    toolkit.register_tool_function(calculator)
    agent = ReActAgent(
        name="calculator_agent",
        sys_prompt=SYSTEM_PROMPT,
        model=model,
        formatter=OpenAIChatFormatter(),
        toolkit=toolkit,
    )
    agent.set_console_output_enabled(False)
    reply = await agent(Msg("user", question, "user"))
    assert reply.get_text_content() == "Answer: 30"
    return requests


def _tool_call(expression: str) -> dict[str, Any]:
    function = {"name": "calculator", "arguments": json.dumps({"expression": expression})}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


# 2. The tasks


def test_a_seed_fixes_the_problem() -> None:
    problem = make_problem(2_000_000)
    assert problem == make_problem(2_000_000)
    assert problem.question == (
        "Bob has 92 cards, loses 21, multiplies them by 6, multiplies them by 5. How many now?"
    )
    assert problem.answer == 2130
    assert [str(x) for x in problem.operations] == ["92 - 21", "71 * 6", "426 * 5"]


def test_each_operation_starts_from_the_last_result() -> None:
    for problem in map(make_problem, range(200)):
        for before, after in zip(problem.operations, problem.operations[1:], strict=False):
            assert after.left == before.result > 0


def test_no_question_is_in_two_splits() -> None:
    counts = {Split.WARM_UP: 11_000, Split.TRAIN: NUM_TRAIN, Split.VALIDATION: NUM_VALIDATION}
    splits = generate(counts)
    assert {split: len(problems) for split, problems in splits.items()} == counts
    questions = [problem.question for problems in splits.values() for problem in problems]
    assert len(set(questions)) == sum(counts.values())


def test_the_shipped_tasks_are_the_generated_ones(tmp_path: Path) -> None:
    problems = generate({Split.TRAIN: NUM_TRAIN, Split.VALIDATION: NUM_VALIDATION})
    for name, split in (("train", Split.TRAIN), ("validation", Split.VALIDATION)):
        write_jsonl(tmp_path / "tasks.jsonl", problems[split])
        assert (tmp_path / "tasks.jsonl").read_bytes() == (DATA / f"{name}.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Answer: 83", "83"), (" Answer: -3\n", "-3"), ("83", None), ("Answer: 83 apples", None)],
)
def test_only_a_bare_answer_counts(text: str, answer: str | None) -> None:
    assert read_answer(text) == answer


# 3. The shipped folder


def test_recipe_tells_the_checksum_of_every_file() -> None:
    files = {path.name: path for path in MODEL.iterdir() if path.name != "RECIPE.json"}
    checksums = {n: hashlib.sha256(path.read_bytes()).hexdigest() for n, path in files.items()}
    assert RECIPE["sha256"] == checksums


def test_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 3_000_000


def test_recipe_leaves_room_for_rl() -> None:
    competence, start = RECIPE["scores"]
    assert competence["greedy_success_rate"] >= 0.95
    assert 0.2 <= start["success_rate"] <= 0.4


@pytest.mark.slow
def test_model_loads_in_float32_with_untied_embeddings() -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in model.parameters()) == RECIPE["parameters"]
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()


# 4. Tokens


@pytest.mark.parametrize("text", ["Sam has 19 apples", "π é 漢字 \x00\n", "<tool_call>\n{}"])
def test_tokenizer_brings_back_any_text(tokenizer: Any, text: str) -> None:
    from tokenizers import Tokenizer

    alone = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == alone.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text


def test_special_tokens_and_digits_are_single_tokens(tokenizer: Any) -> None:
    from tutorial.tiny_models.tokenizer import CONTROL_TOKENS, MARKUP_TOKENS

    for token in CONTROL_TOKENS + MARKUP_TOKENS:
        assert tokenizer.encode(token, add_special_tokens=False) == [
            tokenizer.convert_tokens_to_ids(token)
        ]
    assert len(tokenizer.encode("2130", add_special_tokens=False)) == 4


def test_rendered_call_by_call_the_ids_are_the_training_ids(
    tokenizer: Any, conversations: list[list[dict[str, Any]]]
) -> None:
    from tutorial.example_math_agent.tiny_model.rollout import TOOLS
    from tutorial.tiny_models.conversation import Conversation, tokenize
    from tutorial.tiny_models.tokenizer import EOS, make_renderer

    renderer = make_renderer(tokenizer)
    end = tokenizer.convert_tokens_to_ids(EOS)
    spoken = [Conversation(messages=messages, tools=TOOLS) for messages in conversations]
    for messages, demonstration in zip(conversations, tokenize(tokenizer, spoken), strict=True):
        ids = renderer.render_ids(messages[:2], tools=TOOLS, add_generation_prompt=True)
        sampled = [False] * len(ids)
        for turn in range(2, len(messages), 2):
            length = demonstration.token_ids.index(end, len(ids)) + 1 - len(ids)
            completion = demonstration.token_ids[len(ids) : len(ids) + length]
            prompt, ids = ids, ids + completion
            sampled += [True] * length
            if turn + 1 < len(messages):
                ids = renderer.bridge_to_next_turn(
                    prompt, completion, [messages[turn + 1]], tools=TOOLS
                ).token_ids
                sampled += [False] * (len(ids) - len(sampled))
        assert ids == demonstration.token_ids
        assert sampled == demonstration.sampled


def test_chat_template_gives_the_renderers_ids(
    tokenizer: Any, conversations: list[list[dict[str, Any]]]
) -> None:
    from tutorial.example_math_agent.tiny_model.rollout import TOOLS
    from tutorial.tiny_models.tokenizer import make_renderer

    renderer = make_renderer(tokenizer)
    for messages in conversations:
        for length in range(2, len(messages), 2):
            templated = tokenizer.apply_chat_template(
                messages[:length], tools=TOOLS, add_generation_prompt=True, return_dict=False
            )
            assert templated == renderer.render_ids(
                messages[:length], tools=TOOLS, add_generation_prompt=True
            )
    assert renderer.render_ids(conversations[0]) == tokenizer.apply_chat_template(
        conversations[0], return_dict=False
    )


# 5. The recipe


@pytest.mark.slow
@pytest.mark.timeout(1800)  # about 3 CPU minutes, on a machine that may be busy
def test_recipe_makes_the_shipped_model(tmp_path: Path) -> None:
    module = "tutorial.example_math_agent.tiny_model.build"
    subprocess.run([sys.executable, "-m", module, "--out", tmp_path], cwd=ROOT, check=True)
    rebuilt = json.loads((tmp_path / "RECIPE.json").read_text())
    for mine, shipped in zip(rebuilt["scores"], RECIPE["scores"], strict=True):
        assert mine == pytest.approx(shipped, abs=0.1)
    if rebuilt["made_with"] == RECIPE["made_with"]:
        assert rebuilt["sha256"] == RECIPE["sha256"]
