"""A runner's work, with Ray and a stand-in for the vLLM actor.

1. Every task of a batch is run as often as a group has episodes, by the demo's own agent; what the
   actor sampled comes back as it was, with the version of its weights.
2. If too many episodes fail, the main process gets the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import ray

from ajet.backbone.trinity.group_payload import GroupPayload
from ajet.backbone.trinity.mailbox import Failed, loads, open_mailbox
from ajet.backbone.trinity.tasks import TaskStream
from ajet.backbone.trinity.workflow import BatchOfEpisodes
from ajet.errors import TrainingError
from ajet.schema.episode import Generation, SamplingParams
from tests.trinity.test_pieces import batches_of, make_run_context

pytestmark = [pytest.mark.trinity, pytest.mark.slow]


class Model:
    """Ends every answer at once, or fails."""

    def __init__(self, *, works: bool) -> None:
        self.works = works

    async def complete(
        self, prompt_ids: list[int], params: SamplingParams, max_tokens: int
    ) -> Generation:
        if not self.works:
            raise ValueError("no engine")
        return Generation(
            token_ids=[params.stop_token_ids[0]], logprobs=[-0.5], policy_versions=[7]
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, address="local")
    yield
    ray.shutdown()


def run_a_batch(namespace: str, *, works: bool) -> list[GroupPayload]:
    name = "explorer_rollout_model_0_0"
    model = ray.remote(Model).options(name=name, namespace=namespace).remote(works=works)
    context = make_run_context(
        namespace=namespace,
        max_model_len=2048,
        settings=["data.train_batch_size=3", "rollout.num_repeat=2", "rollout.max_retries=0"],
    )
    stream = TaskStream(
        SimpleNamespace(workflow_args={"context": context, "batches": batches_of(context)})
    )
    (task,) = asyncio.run(stream.read())
    entries = asyncio.run(BatchOfEpisodes(task=task, model=model).run_async())
    return [GroupPayload.decode(entry) for entry in entries]


def test_a_batch_comes_back_as_groups_with_what_the_actor_sampled(cluster):
    payloads = run_a_batch("works", works=True)
    assert [payload.reader_state["num_taken"] for payload in payloads] == [1, 2, 3]
    for payload in payloads:
        assert len(payload.group.valid) == 2
        assert payload.policy_version == 7
        for sample in payload.samples:
            assert sample.logprobs[sample.loss_mask].tolist() == [-0.5]


def test_where_too_many_episodes_fail_the_main_process_is_told(cluster):
    mailbox = open_mailbox("fails")
    with pytest.raises(TrainingError, match="max_failure_share"):
        run_a_batch("fails", works=False)
    message = loads(ray.get(mailbox.next.remote(60.0)))
    assert isinstance(message, Failed) and "no engine" in message.reason
