"""The parts of the verl backbone, without Ray.

1. The loss that verl's workers compute is the one of every backbone, however the rows are cut into
   ranks and micro-batches, and padding rows change nothing.
2. Rows are laid out so that verl finds each update on each rank.
3. Engine and trainer that disagree stop the run; equal ones do not.
4. A wait for other processes ends.
5. A critic's values become advantages as in a computation by hand.
6. verl's configuration is ours with the user's on top; what verl would only log is refused.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("verl")

from omegaconf import DictConfig
from tensordict import TensorDict

from ajet.algorithm.policy_loss import LossSettings, policy_loss
from ajet.backbone.verl.critic import gae, keep_advantages
from ajet.backbone.verl.engine import VerlEngine
from ajet.backbone.verl.policy import VerlPolicy
from ajet.backbone.verl.settings import RankResources, compose_config
from ajet.backbone.verl.timeouts import call_with_timeout
from ajet.backbone.verl_common.batch import arrange, keep_logprobs, make_batch
from ajet.backbone.verl_common.logprob_agreement import agreement, check_agreement
from ajet.backbone.verl_common.loss import sample_loss
from ajet.backbone.verl_common.optimizer import AdamWOnMatrices
from ajet.config.loading.load import load_config
from ajet.config.sections.algorithm import POLICY_LOSSES, AlgorithmConfig, OptimConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import ConfigError, TrainingError
from ajet.training.checkpoints import Position
from ajet.training.updates import WeightedSample, plan_updates
from tests.make_samples import make_sample
from tests.torch.small_model import random_samples

pytestmark = pytest.mark.verl

DEMO = Path("tutorial/example_math_agent/math_agent_cpu.yaml")
CLIPPED = LossSettings(clip_ratio_low=0.2, clip_ratio_high=0.28)


def planned(
    count: int, *, updates: int = 1, loss_agg: str = "tokens"
) -> list[list[WeightedSample]]:
    common = TrainerCommonConfig(
        optim=OptimConfig(num_updates_per_step=updates),
        algorithm=AlgorithmConfig(loss_agg=loss_agg),
    )
    return plan_updates(random_samples(count, seed=count), common, step=1)


def guess(row: torch.Tensor) -> torch.Tensor:
    """Logprobs that depend on the token and its place: position i is that of token i + 1."""
    following = torch.roll(row, -1).double()
    return (-0.1 - torch.sin(following + torch.arange(len(row))) ** 2).float()


def losses(rows: TensorDict, num_ranks: int, loss_settings: LossSettings) -> float:
    """What verl makes of the rows: one micro-batch a row, summed; the mean over the ranks."""
    columns = {name: rows[name].unbind() for name in sorted(rows.keys())}
    total = 0.0
    for i in range(len(rows)):
        data: dict[str, Any] = {
            name: torch.nested.as_nested_tensor([column[i]], layout=torch.jagged)
            for name, column in columns.items()
        }
        logprobs = torch.nested.as_nested_tensor(
            [guess(columns["input_ids"][i])], layout=torch.jagged
        )
        loss, _ = sample_loss(
            {"log_probs": logprobs}, {**data, "dp_size": num_ranks}, settings=loss_settings
        )
        total += float(loss)
    return total / num_ranks


@pytest.mark.parametrize("loss_agg", ["tokens", "samples", "episodes"])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.parametrize("variant", POLICY_LOSSES)
def test_the_loss_is_that_of_every_backbone_however_the_rows_are_cut(loss_agg, num_ranks, variant):
    loss_settings = replace(CLIPPED, variant=variant)
    (part,) = planned(7, loss_agg=loss_agg)
    expected = 0.0
    for sample, weights in part:
        mask = torch.from_numpy(sample.loss_mask)
        ids = torch.from_numpy(sample.ids.astype("int64"))
        expected += float(
            policy_loss(
                logprobs=torch.cat([torch.zeros(1), guess(ids)[:-1]])[mask],
                entropy=torch.zeros(int(mask.sum())),
                old_logprobs=torch.from_numpy(sample.logprobs)[mask],
                advantages=torch.from_numpy(sample.advantages)[mask],
                weights=torch.from_numpy(weights)[mask],
                sample_index=torch.zeros(int(mask.sum()), dtype=torch.int64),
                settings=loss_settings,
            ).loss
        )
    rows, _ = arrange([part], num_ranks)
    assert losses(make_batch(rows, 1.0), num_ranks, loss_settings) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("variant", POLICY_LOSSES)
def test_rows_in_one_micro_batch_are_sequences_of_their_own(variant):
    loss_settings = replace(CLIPPED, variant=variant)
    (part,) = planned(7)
    data = make_batch(arrange([part], 1)[0], 1.0)
    logprobs = torch.nested.as_nested_tensor(
        [guess(ids) for ids in data["input_ids"].unbind()], layout=torch.jagged
    )
    together, _ = sample_loss(
        {"log_probs": logprobs}, {**dict(data.items()), "dp_size": 1}, settings=loss_settings
    )
    assert float(together) == pytest.approx(losses(data, 1, loss_settings), rel=1e-5)


@given(count=st.integers(1, 12), ranks=st.integers(1, 4), updates=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_each_rank_finds_its_part_of_each_update_in_order(count, ranks, updates):
    parts = planned(count, updates=updates)
    rows, rows_per_update = arrange(parts, ranks)
    assert len(rows) == rows_per_update * len(parts)
    size = rows_per_update // ranks
    for number, part in enumerate(parts):
        found = []
        for rank in range(ranks):
            start = rank * size * len(parts) + number * size
            found += [row for row in rows[start : start + size] if row is not None]
        assert {id(row) for row in found} == {id(row) for row in part}
    assert sum(row is not None for row in rows) == sum(len(part) for part in parts)


def test_another_temperature_than_that_of_the_run_is_refused():
    (part,) = planned(2)
    with pytest.raises(TrainingError, match="temperature 1, but verl trains at .* \\(0.5\\)"):
        make_batch(part, 0.5)


def test_equal_probabilities_agree():
    logprobs = torch.tensor([-0.1, -1.0, -3.0])
    found = agreement(logprobs, logprobs + 1e-5)
    assert found["training/rollout_actor_probs_pearson_corr"] == pytest.approx(1.0)
    check_agreement(found, step=1, bound=1e-3)


@pytest.mark.parametrize(
    ("engine", "bound"),
    [([-0.1, -1.0, -3.002], 1e-3), ([-3.0, -1.0, -0.1], None)],
    ids=["a difference", "no correlation"],
)
def test_a_disagreement_stops_the_run(engine, bound):
    found = agreement(torch.tensor([-0.1, -1.0, -3.0]), torch.tensor(engine))
    with pytest.raises(TrainingError, match="step 7: vLLM and the trainer disagree"):
        check_agreement(found, step=7, bound=bound)


def test_a_single_probability_has_no_correlation_and_is_no_fault():
    found = agreement(torch.tensor([-1.0]), torch.tensor([-1.0]))
    assert "training/rollout_actor_probs_pearson_corr" not in found
    check_agreement(found, step=1, bound=1e-3)


def nested(*rows: list[float]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def test_a_critics_values_become_advantages_as_by_hand():
    """Row one has a token of a tool between two trained ones; row two is padding."""
    found = gae(
        nested([0.0, 0.0, 1.0], [0.0], [0.0, 2.0]),
        nested([0.5, 9.0, 0.25], [7.0], [1.0, 1.0]),
        nested([1.0, 0.0, 1.0], [0.0], [1.0, 1.0]),
        gamma=0.9,
        lam=0.5,
    )
    # 1 - 0.25; (0.9 * 0.25 - 0.5) + 0.45 * 0.75; 2 - 1; (0.9 * 1 - 1) + 0.45 * 1
    raw = torch.tensor([0.0625, 0.75, 0.35, 1.0])
    first, padding, last = found["returns"].unbind()
    assert torch.allclose(torch.stack([first[0], first[2]]), raw[:2] + torch.tensor([0.5, 0.25]))
    assert torch.allclose(last, raw[2:] + 1.0)
    white = (raw - raw.mean()) / raw.std()
    first, padding, last = found["advantages"].unbind()
    assert torch.allclose(torch.stack([first[0], first[2], *last]), white, atol=1e-5)
    assert first[1] == 0
    assert padding.tolist() == [0.0]


def test_the_advantages_are_kept_where_the_sample_is_trained():
    sample = make_sample([1, 2, 3, 4, 5], [2, 4])
    keep_advantages(sample, torch.tensor([0.5, 9.0, -0.5]))
    assert sample.advantages.tolist() == [0, 0, 0.5, 0, -0.5]


def test_rewards_are_in_the_rows_in_place_of_advantages():
    sample = make_sample([1, 2, 3, 4, 5], [2, 4])
    sample.advantages, sample.rewards = None, np.array([0, 0, 0, 0, 1], np.float32)
    rows = make_batch([(sample, np.ones(5, np.float32)), None], 1.0)
    assert set(rows.keys()) & {"advantages", "rewards"} == {"rewards"}
    assert [row.tolist() for row in rows["rewards"].unbind()] == [[0, 0, 1], [0]]


def test_a_wait_ends():
    with pytest.raises(TrainingError, match="verl: a nap is not done after 0.05 s"):
        call_with_timeout(0.05, "a nap", lambda: time.sleep(5))
    assert call_with_timeout(5, "a sum", lambda: 1 + 1) == 2


def test_what_a_call_raises_comes_out():
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        call_with_timeout(5, "a look-up", fail)


class Stuck:
    """A trainer whose weights never arrive."""

    def publish(self, policy_version: int) -> None:
        time.sleep(5)

    def save(self, folder: Path) -> None:
        raise AssertionError("it would wait for the same workers")


def test_weights_that_do_not_arrive_in_time_end_the_run_without_another_wait(tmp_path):
    engine = VerlEngine(None, max_model_len=8, policy_version=3)
    policy = VerlPolicy(Stuck(), engine, TrainerCommonConfig(), update_timeout_s=0.05)
    with pytest.raises(TrainingError, match="the update of vLLM's weights is not done after 0.05"):
        policy.publish(4)
    assert engine.policy_version == 3
    policy.save(tmp_path, Position(step=4, policy_version=4, reader_state={}))
    assert list(tmp_path.iterdir()) == []


def test_weight_decay_is_on_matrices_only():
    matrix, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = AdamWOnMatrices([matrix, bias], lr=0.1, weight_decay=0.5, betas=(0.9, 0.95))
    matrix.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.allclose(matrix.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(bias.detach(), torch.ones(2))


def composed(device: str, *overrides: str) -> DictConfig:
    ajet = load_config(DEMO, ["ajet.backbone=verl", *overrides]).ajet
    resources = RankResources(model_folder=Path(ajet.model.path), max_model_len=512, device=device)
    return compose_config(ajet, resources).actor_rollout_ref


def test_the_users_section_lies_on_top_of_ours():
    config = composed("cpu", "verl.actor_rollout_ref.model.lora_rank=8", "rollout.num_repeat=3")
    assert (config.model.lora_rank, config.rollout.n) == (8, 3)


def test_lora_is_set_under_the_names_of_every_backbone():
    ours = ("lora.lora_rank=8", "lora.lora_alpha=24", "lora.target_modules=[q_proj]")
    model = composed("cpu", *ours, "lora.exclude_modules=[k_proj]").model
    assert (model.lora_rank, model.lora_alpha, model.target_modules) == (8, 24, ["q_proj"])
    assert model.exclude_modules == ["k_proj"]
    assert composed("cpu", *ours).actor.checkpoint.save_contents == ["model", "optimizer", "extra"]
    assert composed("cpu").model.lora_rank == 0


def test_a_gpu_gets_nothing_of_the_cpu_profile():
    config = composed("cuda")
    # Every device has this setting: the servers refuse all HTTP requests.
    refuses = {"middleware": ["ajet.engine.vllm.key_guard.NoRequests"]}
    assert config.rollout.engine_kwargs.vllm == refuses
    assert config.rollout.dtype == config.actor.fsdp_config.dtype == "bfloat16"
    assert config.rollout.free_cache_engine
    assert composed("cpu").rollout.engine_kwargs.vllm.distributed_executor_backend == "uni"


def test_dtypes_that_disagree_are_refused():
    with pytest.raises(ConfigError, match="rollout.dtype: bfloat16: they must be the same"):
        composed("cpu", "ajet.verl.actor_rollout_ref.rollout.dtype=bfloat16")


def test_a_reference_to_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"ajet.verl: .*nothing"):
        composed("cpu", "ajet.verl.actor_rollout_ref.rollout.seed=${nothing}")


def test_a_setting_that_verl_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="verl.actor_rollout_ref.rolout: .*did you mean"):
        composed("cpu", "ajet.verl.actor_rollout_ref.rolout.seed=3")


def test_each_sample_gets_the_trainers_logprobs_of_its_own_tokens() -> None:
    parts = [
        [(make_sample(range(length), [2, length - 1]), np.ones(length, np.float32))]
        for length in (5, 8)
    ]
    rows, _ = arrange([[*parts[0], *parts[1]]], 3)
    data = make_batch(rows, 1.0)
    logprobs = -torch.arange(len(data["responses"].values()), dtype=torch.float32)
    keep_logprobs(rows, logprobs)
    start = 0
    for row, responses in zip(rows, data["responses"].unbind(), strict=True):
        if row is not None:
            sample, stop = row[0], start + len(responses)
            expected = np.where(sample.loss_mask[2:], logprobs[start:stop].numpy(), 0)
            assert sample.trainer_logprobs.tolist() == [0, 0, *expected]
        start += len(responses)
