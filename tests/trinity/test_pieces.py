"""The parts between us and Trinity-RFT, without Ray.

1. A group goes through the buffer whole, with everything that is to be recorded of it.
2. The advantages are those of every backbone; a group without a gradient says so.
3. A step takes as many groups as it has tasks; one that is too old is put aside, not lost.
4. Each task of a step is run once, by one runner, and each has its position in the data.
5. What engine and trainer disagree about is not trained on. What older weights sampled is
   corrected by the capped ratio of probabilities.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from trinity.common.experience import Experience
from verl.utils import tensordict_utils as tu

from ajet.algorithm.credit import credit
from ajet.algorithm.grpo import grpo
from ajet.backbone.trinity.credit import GroupCredit
from ajet.backbone.trinity.group_payload import GroupPayload
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.backbone.trinity.sampler import FreshGroups
from ajet.backbone.trinity.settings import compose_config
from ajet.backbone.trinity.tasks import TaskStream
from ajet.backbone.trinity.verl_step import StepTrainer
from ajet.config.loading.load import load_config
from ajet.errors import ConfigError, TrainingError
from ajet.task_reader.read_tasks import TrainingData
from ajet.task_reader.task_batches import TaskBatches
from tests.make_samples import make_episode, make_group, make_sample

pytestmark = pytest.mark.trinity

DEMO = Path("tutorial/example_math_agent/math_agent_cpu.yaml")


def make_run_context(*, settings: Sequence[str] = (), **changes: object) -> TrinityRunContext:
    config = load_config(DEMO, ["trainer_common.optim.num_updates_per_step=1", *settings])
    values = {
        "config": config,
        "run_folder": Path("unused"),
        "model_folder": Path(config.ajet.model.path),
        "max_model_len": 64,
        "vocab_size": 50,
        "device": "cpu",
        "total_steps": 5,
        "checkpoint": None,
        "namespace": "test",
        "is_async": False,
        "num_runners": 1,
    }
    return TrinityRunContext(**(values | changes))


def payload_of(
    rewards: list[float], *, policy_version: int = 0, num_taken: int = 1
) -> GroupPayload:
    group = make_group(
        *(make_episode(f"{rewards}/{i}", reward) for i, reward in enumerate(rewards))
    )
    for episode in group.episodes:
        for sample in episode.samples:
            sample.policy_versions[sample.loss_mask] = policy_version
    return GroupPayload(group=group, reader_state={"num_taken": num_taken}, rollout_s=1.0)


def test_a_group_goes_through_the_buffer_whole():
    sent = payload_of([1.0, 0.0])
    received = GroupPayload.decode(Experience.deserialize(sent.encode().serialize()))
    assert [e.reward for e in received.group.episodes] == [1.0, 0.0]
    assert received.reader_state == sent.reader_state
    np.testing.assert_array_equal(received.samples[0].ids, sent.samples[0].ids)


def test_the_advantages_are_those_of_every_backbone():
    entries = [
        payload_of([1.0, 1.0], num_taken=2).encode(),
        payload_of([1.0, 0.0, 0.0], num_taken=1).encode(),  # the order of the data comes back
    ]
    processed, metrics = asyncio.run(GroupCredit("grpo").process(entries))
    mixed, flat = (GroupPayload.decode(entry) for entry in processed)
    expected = payload_of([1.0, 0.0, 0.0])
    credit([expected.group], grpo)
    for ours, theirs in zip(mixed.samples, expected.samples, strict=True):
        np.testing.assert_array_equal(ours.advantages, theirs.advantages)
    assert not flat.gives_gradient and flat.samples == [] and flat.policy_version is None
    assert metrics == {"samples": 3}


class Buffer:
    """Gives what it has, as many as are asked for."""

    def __init__(self, payloads: list[GroupPayload]) -> None:
        self.entries = [payload.encode() for payload in payloads]

    async def read(self, batch_size: int) -> list[Experience]:
        taken, self.entries = self.entries[:batch_size], self.entries[batch_size:]
        assert len(taken) == batch_size, "a real buffer would wait"
        return taken


def sampler_of(
    payloads: list[GroupPayload], *, size: int, max_staleness: int | None
) -> FreshGroups:
    sampler = FreshGroups.__new__(FreshGroups)
    sampler._buffer, sampler._size = Buffer(payloads), size
    sampler._max_staleness, sampler.stale = max_staleness, []
    return sampler


def test_a_group_that_is_too_old_is_put_aside_and_another_one_taken():
    payloads = [payload_of([1.0, 0.0], policy_version=v, num_taken=v) for v in (1, 4, 3, 5)]
    sampler = sampler_of(payloads, size=2, max_staleness=2)
    entries, _, _ = asyncio.run(sampler.sample(7))  # its policy is version 6
    assert [GroupPayload.decode(entry).reader_state["num_taken"] for entry in entries] == [4, 5]
    assert [payload.reader_state["num_taken"] for payload in sampler.stale] == [1, 3]


def test_without_a_bound_no_group_is_too_old():
    payloads = [payload_of([1.0, 0.0], policy_version=0)]
    sampler = sampler_of(payloads, size=1, max_staleness=None)
    entries, _, _ = asyncio.run(sampler.sample(100))
    assert len(entries) == 1 and sampler.stale == []


def batches_of(context: TrinityRunContext) -> TaskBatches:
    return TrainingData.read(context.ajet).batches


def test_each_task_of_a_step_is_run_once_and_has_its_position():
    context = make_run_context(num_runners=3)
    stream = TaskStream(
        SimpleNamespace(workflow_args={"context": context, "batches": batches_of(context)})
    )
    first, second = asyncio.run(stream.read()), asyncio.run(stream.read())
    batches = [task.raw_task["batch"] for task in first]
    assert [len(batch.tasks) for batch in batches] == [6, 5, 5]
    assert len({task.task_id for batch in batches for task in batch.tasks}) == 16
    taken = [state["num_taken"] for batch in batches for state in batch.reader_states]
    assert sorted(taken) == list(range(1, 17))
    assert [batch.tag for batch in batches] == ["train/000001", "train/000001/1", "train/000001/2"]
    assert second[0].raw_task["batch"].tag == "train/000002"


class Workers:
    """Compute the same logprob for every token, and keep what they are to train on."""

    def __init__(self, logprob: float) -> None:
        self._dispatch_info = {"actor": [0]}
        self.logprob = logprob
        self.trained: TensorDict | None = None

    def compute_log_prob(self, data: TensorDict) -> TensorDict:
        ids = data["input_ids"]
        values = torch.full((len(ids.values()),), self.logprob)
        nested = torch.nested.nested_tensor_from_jagged(values, ids.offsets())
        return TensorDict({"log_probs": nested, "entropy": -nested}, batch_size=[len(data)])

    def update_actor(self, data: TensorDict) -> TensorDict:
        self.trained = data
        metrics = {"loss": [0.5], "grad_norm": [1.0], "tokens": [4.0], "clipped": [0.0]}
        return tu.get_tensordict(tensor_dict={}, non_tensor_dict={"metrics": metrics})


def engine_of(workers: Workers, *, step: int) -> StepTrainer:
    engine = StepTrainer.__new__(StepTrainer)
    engine._context = make_run_context()
    engine._settings = engine._context.ajet.trainer_common
    engine._cap = 2.0
    engine.is_unfinished = False
    engine.global_steps = step
    engine.actor_rollout_wg = workers
    return engine


def test_on_policy_the_engines_logprobs_are_trained_on_as_they_are():
    workers = Workers(-1.0)
    metrics = engine_of(workers, step=3).train(
        [make_sample([1, 2, 3, 4], [2, 3], policy_version=3)]
    )
    assert metrics["trinity/ppo_kl"] == 0 and metrics["staleness/max"] == 0
    assert metrics["policy/entropy"] == 1.0 and metrics["policy/loss"] == 0.5
    assert "trinity/importance_weight" not in metrics
    assert workers.trained["advantages"].values().tolist() == [1.0, 1.0]


def test_what_engine_and_trainer_disagree_about_is_not_trained_on():
    workers = Workers(-1.01)
    with pytest.raises(TrainingError, match="disagree"):
        engine_of(workers, step=3).train([make_sample([1, 2, 3, 4], [2, 3], policy_version=3)])
    assert workers.trained is None


@pytest.mark.parametrize(("now", "weight"), [(-1.5, np.exp(-0.5)), (-0.1, 2.0)])
def test_what_older_weights_sampled_is_corrected_by_the_capped_ratio(now, weight):
    workers = Workers(now)
    metrics = engine_of(workers, step=3).train(
        [make_sample([1, 2, 3, 4], [2, 3], policy_version=1)]
    )
    assert metrics["staleness/max"] == 2 and "policy/logprob_diff_max" not in metrics
    np.testing.assert_allclose(workers.trained["advantages"].values(), weight, rtol=1e-6)
    np.testing.assert_allclose(workers.trained["rollout_log_probs"].values(), now, rtol=1e-6)


def test_a_step_without_samples_changes_nothing():
    engine = engine_of(Workers(-1.0), step=3)
    assert engine.train([]) == {} and engine.global_steps == 4


def test_what_needs_a_gpu_or_is_unknown_to_trinity_is_refused(tmp_path):
    for setting, message in [
        ("trinity.synchronizer.sync_method=nccl", "nccl is for GPUs"),
        ("trinity.synchronizer.sync_intervall=2", "sync_intervall"),
    ]:
        model = Path("ajet/tiny_model/calculator").resolve()
        with pytest.raises(ConfigError, match=message):
            context = make_run_context(settings=[setting], run_folder=tmp_path, model_folder=model)
            compose_config(context, batches_of(context))
