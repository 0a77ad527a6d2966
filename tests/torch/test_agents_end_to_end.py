"""The math agent in every library, with the tiny model, as `docs/agents.md` shows it.

Agents that send the same messages and tools get the same tokens and rewards, whichever door and
library they use, blocking or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

pytest.importorskip("torch")

from ajet import Task, Workflow
from ajet.backbone.local.entry import EmbeddedServing
from ajet.backbone.local.policy import load_policy
from ajet.class_path import load_class
from ajet.config.loading.load import load_config
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Episode, Group
from ajet.task_judge.math_answer_as_judge import MathAnswerAsJudge
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL
from tutorial.example_math_agent.problems import Split, generate

FOLDER = "tutorial/example_math_agent"
REPEATS = 4

Run = Callable[..., list[Group]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs the agent of a file: four problems, four times each, always with the same seed."""
    config = load_config(f"{FOLDER}/math_agent_cpu.yaml")
    policy = load_policy(config.ajet.model)
    problems = generate({Split.VALIDATION: 4})[Split.VALIDATION]
    tasks = [Task.model_validate(problem.as_task()) for problem in problems]

    def run(file_name: str, tag: str = "test") -> list[Group]:
        serving = EmbeddedServing(policy, config.ajet.rollout, seed=0, policy_version=0)
        gateway = Gateway(
            chat_format=policy.chat_format,
            engine=serving.engine,
            defaults=SamplingDefaults(max_tokens=40, temperature=1.0),
        )
        runner = EpisodeRunner(
            workflow_class=load_class(f"{FOLDER}/{file_name}.py->MathAgent", Workflow, "test"),
            gateway=gateway,
            config=config,
            judge=MathAnswerAsJudge(config),
        )
        rollout = Rollout(runner=runner, seed=0, max_failure_share=1.0)
        try:
            return rollout.run(tasks, num_repeat=REPEATS, tag=tag)
        finally:
            runner.http_endpoint.close()

    yield run


@pytest.fixture(scope="module")
def by_openai_sdk(run: Run) -> list[Episode]:
    return episodes_of(run("math_agent_openai"))


@pytest.mark.parametrize(
    ("file_name", "library", "major"),
    [
        ("math_agent", "agentscope", "1"),
        ("math_agent_agentscope2", "agentscope", "2"),
        ("math_agent_langchain", "langchain-openai", None),
        ("math_agent_http", "requests", None),
        ("math_agent_openai_agents", "openai-agents", None),
    ],
)
def test_the_same_agent_gets_the_same_tokens_by_every_door(
    run: Run,
    by_openai_sdk: list[Episode],
    monkeypatch: pytest.MonkeyPatch,
    file_name: str,
    library: str,
    major: str | None,
) -> None:
    try:
        installed, _, _ = version(library).partition(".")
    except PackageNotFoundError:
        pytest.skip(f"{library} is not installed")
    if major not in (None, installed):
        pytest.skip(f"{library} {installed} is installed")
    if file_name == "math_agent_agentscope2":  # which describes tools in another order
        place = "agentscope.tool._types.RegisteredTool.get_tool_schema"
        monkeypatch.setattr(place, lambda tool: CALCULATOR_TOOL)
    episodes = episodes_of(run(file_name))
    assert [e.reward for e in episodes] == [e.reward for e in by_openai_sdk]
    for mine, reference in zip(episodes, by_openai_sdk, strict=True):
        assert mine.episode_id == reference.episode_id
        for sample, other in zip(mine.samples, reference.samples, strict=True):
            assert sample.ids.tolist() == other.ids.tolist()
            assert sample.loss_mask.tolist() == other.loss_mask.tolist()
            assert np.array_equal(sample.logprobs, other.logprobs)


def test_the_agent_uses_its_tool_and_sometimes_succeeds(by_openai_sdk: list[Episode]) -> None:
    assert 0 < np.mean([episode.reward for episode in by_openai_sdk]) < 1
    assert max(len(episode.calls) for episode in by_openai_sdk) >= 3
    assert all(len(episode.samples) == 1 for episode in by_openai_sdk)


def test_another_phase_has_other_tokens(run: Run, by_openai_sdk: list[Episode]) -> None:
    others = episodes_of(run("math_agent_openai", tag="another"))
    pairs = zip(others, by_openai_sdk, strict=True)
    assert any(a.samples[0].ids.tolist() != b.samples[0].ids.tolist() for a, b in pairs)


def episodes_of(groups: list[Group]) -> list[Episode]:
    episodes = [episode for group in groups for episode in group.episodes]
    assert [episode.failure for episode in episodes] == [None] * len(episodes)
    return episodes
