"""verl's synchronous trainer, fed with AgentJet's samples and advantages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict

from ajet.backbone.verl.critic import gae, keep_advantages
from ajet.backbone.verl_common.batch import arrange, keep_logprobs, make_batch
from ajet.backbone.verl_common.logprob_agreement import agreement, check_agreement
from ajet.backbone.verl_common.loss import sample_loss
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.training.loss_settings import loss_settings
from ajet.training.updates import WeightedSample, learning_rate

PARTITION = "train"
_LONG_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class ReadyBuffer:
    """Replaces verl's replay buffer: returns the rows of the step, which are already complete."""

    def __init__(self) -> None:
        self.batch = KVBatchMeta()

    def sample(self, **_: Any) -> tuple[KVBatchMeta, dict[str, float]]:
        """Return the step's rows and no metrics."""
        return self.batch, {}


@dataclass(slots=True, kw_only=True, frozen=True)
class RankWorkers:
    """Classes of the workers that run in a training rank."""

    policy: type
    critic: type


class VerlTrainer(PPOTrainerSync):
    """Trains one step at a time with AgentJet's samples, advantages, loss and learning rate.

    Args:
        config: verl's configuration.
        settings: section `ajet.trainer_common`.
        total_steps: steps of the run, at which the learning rate schedule ends.
        workers: classes of the workers of a rank.
        checkpoint: the checkpoint to start from; None: the base model.
        policy_version: version of the initial weights.
        logprob_diff_bound: largest accepted difference of a token's logprob between engine and
            trainer; None: only the correlation of their probabilities is checked.
    """

    def __init__(
        self,
        config: DictConfig,
        settings: TrainerCommonConfig,
        *,
        total_steps: int,
        workers: RankWorkers,
        checkpoint: Path | None,
        policy_version: int,
        logprob_diff_bound: float | None,
    ) -> None:
        super().__init__(config)
        self.global_steps = 0
        self.curr_step_profile = False
        self.timing_raw: dict[str, float] = {}
        self._settings = settings
        self._total_steps = total_steps
        self._workers = workers
        self._checkpoint = checkpoint
        self._policy_version = policy_version
        self._bound = logprob_diff_bound
        self._rows: list[WeightedSample | None] = []
        self._rows_per_update = 0
        self._loss = loss_settings(settings)

    def train(self, parts: Sequence[Sequence[WeightedSample]], *, step: int) -> dict[str, float]:
        """Run a step's updates and return verl's metrics under verl's names."""
        self.global_steps = step
        self._rows, self._rows_per_update = rows, _ = arrange(parts, self._num_ranks())
        keys = [f"step{step}_{row}_0" for row in range(len(rows))]
        self.replay_buffer.batch = tq.kv_batch_put(
            keys=keys,
            partition_id=PARTITION,
            fields=make_batch(rows, self.config.actor_rollout_ref.rollout.temperature),
            tags=[{"is_padding": row is None} for row in rows],
        )
        metrics: dict[str, float] = {}
        self.timing_raw = {}
        try:
            self.step(metrics, self.timing_raw)
        finally:
            tq.kv_clear(keys=keys, partition_id=PARTITION)
        timings = {f"timing_s/{name}": seconds for name, seconds in self.timing_raw.items()}
        return {**metrics, **timings}

    def publish(self, policy_version: int) -> None:
        """Send the weights to the replicas and number them `policy_version`."""
        self.checkpoint_manager.update_weights(policy_version)

    def save(self, folder: Path) -> None:
        """Write a Hugging Face model into the folder, and verl's own state below it."""
        if self.use_critic:
            self.critic_wg.save_checkpoint(str(folder / "critic"), None, self.global_steps)
        self.actor_rollout_wg.save_checkpoint(str(folder / "actor"), None, self.global_steps)
        model = folder / "actor" / "huggingface"
        for file in model.iterdir():
            file.rename(folder / file.name)
        model.rmdir()
        # verl 0.9 writes the weights in the trained dtype, but config.json says bfloat16.
        config = json.loads((folder / "config.json").read_text())
        config["dtype"] = _LONG_DTYPES[self.config.actor_rollout_ref.actor.fsdp_config.model_dtype]
        (folder / "config.json").write_text(json.dumps(config, indent=2))

    # Hooks of verl's trainer.

    def _build_replay_buffer(self) -> ReadyBuffer:
        return ReadyBuffer()

    def _init_dataloader(self) -> None:
        """Do nothing: the training loop reads the data."""

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        self.role_worker_mapping: dict[Role, Any] = {
            role: ray.remote(self._workers.critic if role == Role.Critic else self._workers.policy)
            for role in self.role_worker_mapping
        }

    def _load_checkpoint(self) -> None:
        if self._checkpoint is not None:
            self.actor_rollout_wg.load_checkpoint(str(self._checkpoint / "actor"))
            if self.use_critic:
                self.critic_wg.load_checkpoint(str(self._checkpoint / "critic"))

    def on_init_end(self) -> None:
        """Give the loss function to the workers and their weights to the replicas."""
        self.actor_rollout_wg.set_loss_fn(partial(sample_loss, settings=self._loss))
        self.publish(self._policy_version)

    def prepare_step(self) -> dict[str, float]:
        """Do nothing: the rollout is already done."""
        return {}

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, float]) -> KVBatchMeta:
        """Do nothing: `arrange` has balanced the rows over the ranks."""
        return batch

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        fields = ["old_log_probs", "rollout_log_probs", "response_mask"]
        data = tq.kv_batch_get(batch.keys, batch.partition_id, select_fields=fields)
        is_trained = data["response_mask"].values().bool()
        found = agreement(
            data["old_log_probs"].values()[is_trained],
            data["rollout_log_probs"].values()[is_trained],
        )
        check_agreement(found, step=self.global_steps, bound=self._bound)
        keep_logprobs(self._rows, data["old_log_probs"].values())
        metrics |= found
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, float]) -> KVBatchMeta:
        """Compute advantages from the critic's values; without a critic the rows have them."""
        if self.use_critic:
            fields = ["rewards", "values", "response_mask"]
            data = tq.kv_batch_get(batch.keys, batch.partition_id, select_fields=fields)
            credit = self._settings.critic
            found = gae(
                data["rewards"],
                data["values"],
                data["response_mask"],
                gamma=credit.gamma,
                lam=credit.lam,
            )
            batch = tq.kv_batch_put(batch.keys, batch.partition_id, fields=found)
            for row, advantages in zip(self._rows, found["advantages"].unbind(), strict=True):
                if row is not None:
                    keep_advantages(row[0], advantages)
        # None selects every field in the queue, including the reference model's logprobs.
        batch.fields = None
        return batch

    def _update_critic(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch.extra_info.update(self._update_settings())
        output = self.critic_wg.train_mini_batch(batch).get()
        metrics |= reduce_metrics(rename_dict(output["metrics"], "critic/"))
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        rate = learning_rate(self.global_steps, self._settings.optim, self._total_steps)
        batch.extra_info.update(
            self._update_settings(),
            calculate_entropy=self._loss.entropy_coef != 0,
            distillation_use_topk=False,
            distillation_only=False,
            learning_rate=rate,
        )
        output = self.actor_rollout_wg.update_actor(batch)
        metrics |= reduce_metrics(rename_dict(output["metrics"], "actor/"))
        metrics["actor/lr"] = rate  # verl reports the rate of its own schedule, which is unused
        return batch

    def _update_settings(self) -> dict[str, Any]:
        """Settings of the updates, which follow the order that `arrange` gave the rows."""
        return {
            "global_batch_size": self._rows_per_update,
            "mini_batch_size": self._rows_per_update,
            "epochs": 1,
            "seed": self._settings.seed,
            "dataloader_kwargs": {"shuffle": False},
            "temperature": self.config.actor_rollout_ref.rollout.temperature,
        }

    def _num_ranks(self) -> int:
        """The number of ranks among which verl divides the rows."""
        info = self.actor_rollout_wg._dispatch_info
        if "actor" not in info:
            info["actor"] = self.actor_rollout_wg._query_dispatch_info("actor")
        last_rank: int = max(info["actor"])
        return last_rank + 1
