"""verl's synchronous trainer, on samples and advantages that are already there."""

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
from ajet.backbone.verl_common.batch import arrange, table
from ajet.backbone.verl_common.logprob_agreement import agreement, check_agreement
from ajet.backbone.verl_common.loss import sample_loss
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.training.loss_settings import loss_settings
from ajet.training.updates import WeightedSample, learning_rate

PARTITION = "train"
_LONG_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class ReadyBuffer:
    """Stands for verl's replay buffer: gives the rows of the step, which are all there."""

    def __init__(self) -> None:
        self.batch = KVBatchMeta()

    def sample(self, **_: Any) -> tuple[KVBatchMeta, dict[str, float]]:
        """The rows, and no metrics."""
        return self.batch, {}


@dataclass(slots=True, kw_only=True, frozen=True)
class RankWorkers:
    """Classes of the workers of a rank."""

    policy: type
    critic: type


class VerlTrainer(PPOTrainerSync):
    """One step of verl at a time, with AgentJet's samples, credit, loss and learning rate.

    Args:
        config: verl's.
        settings: section `ajet.trainer_common`.
        total_steps: of the run, where the learning rate's schedule ends.
        workers: classes of the workers of a rank.
        checkpoint: to begin with; None: the base model.
        policy_version: of the weights to begin with.
        logprob_diff_bound: of engine against trainer; None: only their correlation counts.
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
        """Run a step's updates; verl's metrics under verl's names."""
        self.global_steps = step
        self._rows, self._rows_per_update = rows, _ = arrange(parts, self._num_ranks())
        keys = [f"step{step}_{row}_0" for row in range(len(rows))]
        self.replay_buffer.batch = tq.kv_batch_put(
            keys=keys,
            partition_id=PARTITION,
            fields=table(rows, self.config.actor_rollout_ref.rollout.temperature),
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
        """Send the weights to the replicas, as this version."""
        self.checkpoint_manager.update_weights(policy_version)

    def save(self, folder: Path) -> None:
        """Put the model in Hugging Face format into the folder, verl's state into folders in it."""
        if self.use_critic:
            self.critic_wg.save_checkpoint(str(folder / "critic"), None, self.global_steps)
        self.actor_rollout_wg.save_checkpoint(str(folder / "actor"), None, self.global_steps)
        model = folder / "actor" / "huggingface"
        for file in model.iterdir():
            file.rename(folder / file.name)
        model.rmdir()
        # verl writes the weights as they are trained, and says that they are bfloat16.
        config = json.loads((folder / "config.json").read_text())
        config["dtype"] = _LONG_DTYPES[self.config.actor_rollout_ref.actor.fsdp_config.model_dtype]
        (folder / "config.json").write_text(json.dumps(config, indent=2))

    # What verl's trainer asks of a subclass, or does in its own way.

    def _build_replay_buffer(self) -> ReadyBuffer:
        return ReadyBuffer()

    def _init_dataloader(self) -> None:
        """The data are read elsewhere."""

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        self.role_worker_mapping = {
            role: ray.remote(self._workers.critic if role == Role.Critic else self._workers.policy)
            for role in self.role_worker_mapping
        }

    def _load_checkpoint(self) -> None:
        if self._checkpoint is not None:
            self.actor_rollout_wg.load_checkpoint(str(self._checkpoint / "actor"))
            if self.use_critic:
                self.critic_wg.load_checkpoint(str(self._checkpoint / "critic"))

    def on_init_end(self) -> None:
        """The loss goes to the workers, and their weights to the replicas."""
        self.actor_rollout_wg.set_loss_fn(partial(sample_loss, settings=self._loss))
        self.publish(self._policy_version)

    def prepare_step(self) -> dict[str, float]:
        """The rollout is done."""
        return {}

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, float]) -> KVBatchMeta:
        """The rows are laid out."""
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
        metrics |= found
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, float]) -> KVBatchMeta:
        """The rows have them, where there is no critic."""
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
        batch.fields = None  # all that the queue has by now, the reference's logprobs as well
        return batch

    def _update_critic(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch.extra_info.update(self._how_to_update())
        output = self.critic_wg.train_mini_batch(batch).get()
        metrics |= reduce_metrics(rename_dict(output["metrics"], "critic/"))
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        rate = learning_rate(self.global_steps, self._settings.optim, self._total_steps)
        batch.extra_info.update(
            self._how_to_update(),
            calculate_entropy=self._loss.entropy_coef != 0,
            distillation_use_topk=False,
            distillation_only=False,
            learning_rate=rate,
        )
        output = self.actor_rollout_wg.update_actor(batch)
        metrics |= reduce_metrics(rename_dict(output["metrics"], "actor/"))
        metrics["actor/lr"] = rate  # verl reports its own schedule, which is not used
        return batch

    def _how_to_update(self) -> dict[str, Any]:
        """As the rows are laid out."""
        return {
            "global_batch_size": self._rows_per_update,
            "mini_batch_size": self._rows_per_update,
            "epochs": 1,
            "seed": self._settings.seed,
            "dataloader_kwargs": {"shuffle": False},
            "temperature": self.config.actor_rollout_ref.rollout.temperature,
        }

    def _num_ranks(self) -> int:
        """Ranks between which verl divides the rows."""
        info = self.actor_rollout_wg._dispatch_info
        if "actor" not in info:
            info["actor"] = self.actor_rollout_wg._query_dispatch_info("actor")
        return max(info["actor"]) + 1
