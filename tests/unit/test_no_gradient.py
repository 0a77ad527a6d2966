"""A step without a gradient says why, and a run in which no call is trained ends after one step."""

from __future__ import annotations

from typing import Any

import pytest

from ajet.errors import TrainingError
from ajet.schema.episode import Group
from ajet.schema.task import WorkflowOutput
from ajet.training.no_gradient import require_trained_calls, why_no_gradient
from ajet.workflow import Workflow
from tests.unit.episode_fakes import rollout_of, tasks_of


class Trained(Workflow):
    tag = "default"

    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        client = tuner.as_raw_openai_sdk_client("solver", target_tag=self.tag)
        await client.chat.completions.create(
            model="policy", messages=[{"role": "user", "content": "hi"}]
        )
        return WorkflowOutput(reward=1.0)


class Untagged(Trained):
    trainable_targets = ["solver"]


class OwnClient(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        return WorkflowOutput(reward=1.0)


class Fails(Workflow):
    async def execute(self, workflow_task: Any, tuner: Any) -> WorkflowOutput:
        raise ValueError("no")


def groups_of(workflow: type[Workflow], num_repeat: int = 2) -> list[Group]:
    rollout = rollout_of(workflow, max_failure_share=1.0)
    return rollout.run(tasks_of(2), num_repeat=num_repeat, tag="x")


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        (
            Untagged,
            'none of the 4 calls is trained: agent "solver" has target_tag "default", which '
            "Workflow.trainable_targets does not name",
        ),
        (OwnClient, "the workflow made no call through the tuner"),
    ],
)
def test_a_run_in_which_no_call_is_trained_says_which_of_the_two(
    workflow: type[Workflow], message: str
) -> None:
    groups = groups_of(workflow)
    assert message in why_no_gradient(groups)
    with pytest.raises(TrainingError, match="nothing can be trained") as caught:
        require_trained_calls(groups)
    assert message in str(caught.value)


def test_equal_rewards_are_named_only_where_they_are_the_reason() -> None:
    assert why_no_gradient(groups_of(Trained)) == "every group's rewards are all equal"
    assert "num_repeat" in why_no_gradient(groups_of(Trained, num_repeat=1))
    assert why_no_gradient(groups_of(Fails)) == "no episode has a reward"
    dropped = groups_of(Trained)
    for group in dropped:
        for episode in group.episodes:
            episode.samples, episode.dropped_tokens = [], {"max_prompt_length": 5}
    text = (
        "all samples were dropped by data.max_prompt_length: more tokens come before the first "
        "trained one (20 sampled tokens)"
    )
    assert why_no_gradient(dropped) == text


@pytest.mark.parametrize("workflow", [Trained, Fails])
def test_a_run_with_trained_calls_or_failures_only_goes_on(workflow: type[Workflow]) -> None:
    require_trained_calls(groups_of(workflow))
