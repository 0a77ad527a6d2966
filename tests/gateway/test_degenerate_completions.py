"""Checks of completions, and tool calls that are left in the text.

1. The rules that a trained agent's completion fails are recorded with its call.
2. An episode with such a completion gets `agent_madness_reward` and is no success, whatever the
   workflow or a judge says; its tokens are trained.
3. `agent_madness_termination` ends the episode at the first one: every later request is refused.
4. `critic/madness_rate` is the share of such episodes; each rule has a share of its own.
5. Without a checklist there is nothing of this; an untrained agent is not checked.
6. `force_disable_toolcalls`: the model does not see tools, and a tool call is text, whole and
   recognised when it comes back.
"""

from __future__ import annotations

from typing import Any, get_args

import pytest
from openai import BadRequestError

from ajet import Task, Workflow, WorkflowOutput
from ajet.config.sections.rollout import RolloutConfig
from ajet.engine.scripted import ScriptedEngine
from ajet.gateway.completion_checks import CHECKS
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Group
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_rollout.rollout import Rollout, rollout_metrics
from ajet.task_runner.episode_run import EpisodeRunner
from tests.gateway.gateway_fakes import (
    CALL,
    HELLO,
    TOKENIZER,
    TOOL,
    Agent,
    agent_of,
    format_of,
    joined,
    run,
    stream_chunks,
)

LOOP = "ha " * 100


class TwoCalls(Workflow):
    """Asks twice, and is content with itself."""

    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        client = tuner.as_raw_openai_sdk_client("solver", "solver")
        for _ in range(2):
            await client.chat.completions.create(model="policy", messages=HELLO)
        return WorkflowOutput(reward=1.0, is_success=True)


class Judged(TwoCalls):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        await super().execute(workflow_task, tuner)
        return WorkflowOutput()


class Generous(BaseJudge):
    def compute_reward(self, workflow_task: Any, workflow_output: Any) -> tuple[float, bool]:
        return 1.0, True


def group_of(
    texts: list[str],
    workflow_class: type[Workflow] = TwoCalls,
    judge: BaseJudge | None = None,
    **gateway: Any,
) -> Group:
    """One episode whose model says `texts`."""
    chat_format = format_of("qwen3")
    engine = ScriptedEngine.from_texts(TOKENIZER, texts, chat_format.stop_token_ids[0])
    shared = Gateway(
        chat_format=chat_format,
        engine=engine,
        defaults=SamplingDefaults(max_tokens=500),
        **gateway,
    )
    runner = EpisodeRunner(
        workflow_class=workflow_class, gateway=shared, judge=judge, madness_reward=-0.5
    )
    rollout = Rollout(runner=runner, seed=0, max_failure_share=1.0)
    (group,) = rollout.run([Task(main_query="q", task_id="a")], num_repeat=1, tag="t")
    return group


# 1, 2, 4


@pytest.mark.parametrize(
    "workflow_class, judge", [(TwoCalls, None), (Judged, Generous({})), (Judged, None)]
)
def test_an_episode_with_a_loop_gets_the_configured_reward(
    workflow_class: type[Workflow], judge: BaseJudge | None
) -> None:
    checklist = ("nonsense", "non_ascii")
    group = group_of(["fine", LOOP], workflow_class, judge, checklist=checklist)
    (episode,) = group.episodes
    assert episode.failure is None
    assert (episode.reward, episode.is_success) == (-0.5, False)
    assert [call.failed_checks for call in episode.calls] == [[], ["nonsense"]]
    assert episode.failed_checks == {"nonsense": 1, "non_ascii": 0}
    assert sum(sample.num_trained for sample in episode.samples) == sum(
        len(call.completion_ids) for call in episode.calls
    )
    metrics = rollout_metrics([group])
    assert metrics["critic/madness_rate"] == 1.0
    assert metrics["critic/madness_rate/nonsense"] == 1.0
    assert metrics["critic/madness_rate/non_ascii"] == 0.0


def test_an_episode_that_passes_keeps_its_reward() -> None:
    group = group_of(["fine", "good"], checklist=("nonsense",))
    (episode,) = group.episodes
    assert (episode.reward, episode.is_success) == (1.0, True)
    assert rollout_metrics([group])["critic/madness_rate"] == 0.0


def test_a_tool_call_that_names_no_tool_is_recorded() -> None:
    agent = agent_of([CALL, CALL], checklist=("wrong_toolcall",))
    run(lambda: agent.chat(tools=[TOOL]))
    run(lambda: agent.chat())
    assert [call.failed_checks for call in agent.tracker.calls] == [[], ["wrong_toolcall"]]


# 3


def test_the_first_such_completion_ends_the_episode() -> None:
    group = group_of(["好", "fine"], checklist=("non_ascii",), ends_at_failed_check=True)
    (episode,) = group.episodes
    assert episode.failure is None
    assert (episode.reward, episode.is_success) == (-0.5, False)
    assert [call.failed_checks for call in episode.calls] == [["non_ascii"]]
    assert episode.metadata == {"ended_by": "non_ascii"}
    assert len(episode.samples) == 1


@pytest.mark.parametrize("streams", [False, True])
def test_the_agent_hears_which_check_ended_its_episode(streams: bool) -> None:
    agent = agent_of([LOOP, "fine"], checklist=("nonsense",), ends_at_failed_check=True)

    async def ask() -> None:
        if streams:
            await stream_chunks(agent)
        else:
            await agent.openai.chat.completions.create(model="policy", messages=HELLO)

    for _ in range(2):
        with pytest.raises(Exception, match="nonsense") as caught:
            run(ask)
        if not streams:
            assert isinstance(caught.value, BadRequestError)
            assert caught.value.code == "failed_check"
    assert len(agent.tracker.calls) == 1


# 5


def test_without_a_checklist_nothing_is_checked() -> None:
    group = group_of([LOOP, LOOP])
    assert group.episodes[0].reward == 1.0
    assert not [name for name in rollout_metrics([group]) if name.startswith("critic/")]


def test_an_untrained_agent_is_not_checked() -> None:
    class Untrained(TwoCalls):
        trainable_targets: list[str] | None = ["other"]

    group = group_of([LOOP, LOOP], Untrained, checklist=("nonsense",))
    assert group.episodes[0].reward == 1.0


def test_the_configuration_knows_every_rule() -> None:
    annotation = RolloutConfig.model_fields["compute_madness_checklist"].annotation
    (names,) = get_args(annotation)
    assert set(get_args(names)) == set(CHECKS)


# 6


def without_tools(texts: list[str], **options: Any) -> Agent:
    return agent_of(texts, form="qwen3", without_tool_calls=True, **options)


@pytest.mark.parametrize(
    "text", [CALL, f"I look.\n{CALL}\nDone.", "<tool_call>{no", f"{CALL}\n{CALL}"]
)
def test_tool_calls_stay_text(text: str) -> None:
    agent = without_tools([text, "ok", text])
    message = run(lambda: agent.chat(tools=[TOOL], tool_choice="required"))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": text}
    assert "look at" not in agent.prompts[0].lower()
    assert "<tool_call>" not in agent.prompts[0]
    run(lambda: agent.chat(messages=[*HELLO, message, {"role": "user", "content": "?"}]))
    assert agent.timelines == ["first_call", None]
    chunks = run(lambda: stream_chunks(agent))
    assert joined(chunks)["content"] == text


def test_reasoning_is_still_told_from_tool_calls() -> None:
    agent = without_tools(
        [f"<think>\nhm\n</think>\n\nSo:\n\n{CALL}"], options={"enable_thinking": True}
    )
    message = run(lambda: agent.chat(tools=[TOOL]))["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    assert message["content"] == f"So:\n\n{CALL}"
