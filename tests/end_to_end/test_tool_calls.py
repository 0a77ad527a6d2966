"""Tool calls that are not what they should be.

1. What the model writes in place of a tool call's JSON reaches the agent as text. The episode
   gets its reward, and every token of it is trained: the model learns not to write this.
2. So it goes with a model that babbles, through the command and both doors, which agree on every
   token.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ajet.config.loading.paths import SHIPPED_MODELS
from ajet.context_tracker.chat_format import load_chat_format, load_tokenizer
from ajet.engine.scripted import ScriptedEngine
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Episode
from ajet.schema.task import Task
from ajet.task_judge.math_answer_as_judge import MathAnswerAsJudge
from ajet.task_runner.episode_run import Attempt, EpisodeRunner
from ajet.workflow import Workflow
from tests.end_to_end.command import AGENTSCOPE_AGENT, OPENAI_AGENT, SMALL, start, wait
from tests.end_to_end.run_folders import NAME, lines_of, rollouts_of
from tutorial.example_math_agent import math_agent, math_agent_openai

MAX_STEPS = 3
CONFIG = SimpleNamespace(
    ajet=SimpleNamespace(rollout=SimpleNamespace(multi_turn=SimpleNamespace(max_steps=MAX_STEPS)))
)


def run_episode(workflow: type[Workflow], *answers: str) -> Episode:
    """An episode in which the model gives these answers."""
    tokenizer = load_tokenizer(SHIPPED_MODELS / "calculator")
    chat_format = load_chat_format(tokenizer, "qwen3", {"enable_thinking": False})
    (stop_id,) = tokenizer.encode("<|im_end|>")
    gateway = Gateway(
        chat_format=chat_format,
        engine=ScriptedEngine.from_texts(tokenizer, answers, stop_id),
        defaults=SamplingDefaults(max_tokens=100),
    )
    runner = EpisodeRunner(
        workflow_class=workflow, gateway=gateway, config=CONFIG, judge=MathAnswerAsJudge(CONFIG)
    )
    task = Task(task_id="t", main_query="1 + 1?", metadata={"answer": "2"})
    return asyncio.run(
        runner.run(Attempt(seed=0, tag="t", task=task, group_index=0, repeat_index=0))
    )


@pytest.mark.parametrize("workflow", [math_agent_openai.MathAgent, math_agent.MathAgent])
@pytest.mark.parametrize(
    "call",
    [
        '{"name": "calculator", "arguments": {"expression": "1 + 1"',
        "not JSON",
        "",
        '{"arguments": {"expression": "1 + 1"}}',
    ],
)
def test_what_is_no_tool_call_is_text(workflow: type[Workflow], call: str) -> None:
    episode = run_episode(workflow, f"<tool_call>\n{call}\n</tool_call>")
    assert episode.failure is None
    assert episode.reward == 0.0
    (answered,) = episode.calls
    assert "tool_calls" not in answered.response
    assert call in answered.response["content"]
    assert sum(sample.num_trained for sample in episode.samples) == len(answered.completion_ids)


@pytest.mark.parametrize("workflow", [math_agent_openai.MathAgent, math_agent.MathAgent])
@pytest.mark.parametrize(
    "call",
    [
        '{"name": "calculator", "arguments": "1 + 1"}',
        '{"name": "calculator", "arguments": ["1 + 1"]}',
        '{"name": "calculator", "arguments": {"formula": "1 + 1"}}',
        '{"name": "calculator"}',
    ],
)
def test_wrong_arguments_are_answered_by_the_tool(workflow: type[Workflow], call: str) -> None:
    episode = run_episode(workflow, f"<tool_call>\n{call}\n</tool_call>", "Answer: 2")
    assert episode.failure is None
    assert episode.reward == 1.0
    assert len(episode.calls) == 2


def test_a_babbling_model_fails_no_episode(tmp_path: Path) -> None:
    options = (
        *SMALL,
        "rollout.temperature=2.5",
        "trainer_common.total_training_steps=1",
        "trainer_common.val_before_train=false",
    )
    doors = {"openai": OPENAI_AGENT, "agentscope": AGENTSCOPE_AGENT}
    runs = {
        door: start("--exp-dir", str(tmp_path / door), f"rollout.user_workflow={agent}", *options)
        for door, agent in doors.items()
    }
    for door, process in runs.items():
        ended = wait(process)
        assert ended.code == 0, ended.stderr
        (line,) = lines_of(tmp_path / door / NAME / "metrics.jsonl")
        assert line["episode/failed"] == 0
    openai, agentscope = (rollouts_of(tmp_path / door / NAME) for door in doors)
    (table,), (other,) = openai.values(), agentscope.values()
    said = [message for row in table["messages"].to_pylist() for message in json.loads(row)]
    # AgentScope adds the tool's name to its answer, which no template shows to the model.
    assert table.drop_columns(["messages"]).equals(other.drop_columns(["messages"]))
    assert any(_is_broken_call(message) for message in said)


def _is_broken_call(message: dict[str, Any]) -> bool:
    """Text that was meant to be a call."""
    return message["role"] == "assistant" and '"arguments"' in (message["content"] or "")
