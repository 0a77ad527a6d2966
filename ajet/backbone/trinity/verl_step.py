"""Trinity's verl trainer with AgentJet's samples, advantages, loss and learning rate."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import trinity.trainer.verl.trainer as trinity_verl
from tensordict import TensorDict
from trinity.common.config import Config
from verl.utils import tensordict_utils as tu
from verl.utils.metric import reduce_metrics
from verl.workers.utils.padding import response_from_nested

from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.backbone.verl_common.batch import arrange, keep_logprobs, make_batch
from ajet.backbone.verl_common.logprob_agreement import agreement, check_agreement
from ajet.backbone.verl_common.loss import sample_loss
from ajet.errors import TrainingError
from ajet.schema.episode import Sample
from ajet.training.checkpoints import Position, written_checkpoint
from ajet.training.loss_settings import loss_settings
from ajet.training.updates import WeightedSample, learning_rate, plan_updates, staleness


class StepTrainer(trinity_verl.VERLTrainer):
    """Trains one step at a time.

    Tokens that older weights sampled are trained with truncated importance sampling. The trainer's
    logprobs before the step replace those of the sampling policy in the loss, and the advantage is
    multiplied by the ratio of the two probabilities, at most `importance_cap`. This is decoupled
    PPO (arXiv:2110.00641), which AReaL (arXiv:2505.24298) uses asynchronously; both leave the
    ratio uncapped.

    Args:
        config: Trinity's configuration.
        context: the run's context.
    """

    def __init__(self, config: Config, *, context: TrinityRunContext) -> None:
        if context.device == "cpu":
            from ajet.backbone.trinity.cpu.workers import CpuTrinityPolicyWorker as worker
        else:
            from ajet.backbone.trinity.worker import TrinityPolicyWorker as worker
        # Trinity 0.6 has no setting for the class of its ranks: it looks it up here.
        trinity_verl.TrinityActorRolloutRefWorker = worker
        self._context = context
        self._settings = context.ajet.trainer_common
        self.is_unfinished = False
        """Whether an update has begun and not ended: the weights belong to no version."""
        self._cap = config.algorithm.sample_strategy_args["importance_cap"]
        super().__init__(config)

    async def prepare(self) -> None:
        """Load the checkpoint, if there is one, and give the loss function to the workers."""
        await super().prepare()
        self.actor_rollout_wg.set_loss_fn(
            partial(sample_loss, settings=loss_settings(self._settings))
        )

    def _load_checkpoint(self) -> None:
        self.global_steps = self._context.first_version
        if self._context.checkpoint is not None:
            self.actor_rollout_wg.load_checkpoint(str(self._context.checkpoint / "actor"))

    def train(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Train the next step and return its metrics under their public names.

        Without samples, the step counts but changes no weights.

        Raises:
            TrainingError: engine and trainer disagree, or the gradient is not finite.
        """
        version = self.global_steps
        self.global_steps += 1
        if not samples:
            return {}
        rows, rows_per_update = arrange(
            plan_updates(samples, self._settings, step=self.global_steps), self._get_dp_size()
        )
        temperature = self._context.ajet.rollout.temperature
        data = make_batch(rows, temperature)
        logprobs, entropy = self._forward(data, temperature)
        keep_logprobs(rows, logprobs)
        is_trained = data["response_mask"].values().bool()
        is_current = torch.from_numpy(_versions(rows) == version)
        metrics = staleness(samples, version)
        metrics["policy/entropy"] = float(entropy[is_trained].mean())
        if (compared := is_trained & is_current).any():
            metrics |= self._compare(logprobs[compared], data, compared)
        if not is_current[is_trained].all():
            metrics |= self._correct(data, logprobs, is_trained)
        return metrics | self._update(data, rows_per_update, temperature)

    def probe(self) -> list[float]:
        """[L - 1] logprobs of the probe's ids but the first, under the current weights."""
        ids = np.array(self._context.probe, np.int32)
        one, nothing = np.ones(len(ids), np.float32), np.zeros(len(ids), np.float32)
        sample = Sample(
            episode_id="probe",
            task_id="probe",
            agent_names=(),
            ids=ids,
            loss_mask=np.arange(len(ids)) > 0,
            logprobs=nothing,
            call_index=nothing.astype(np.int32),
            policy_versions=nothing.astype(np.int32),
            temperature=one,
            advantages=nothing,
        )
        rows, _ = arrange([[(sample, nothing)]], self._get_dp_size())
        logprobs, _ = self._forward(make_batch(rows, 1.0), 1.0)
        values: list[float] = logprobs[: len(ids) - 1].tolist()
        return values

    def save(self, position: Position) -> None:
        """Write the checkpoint folder of a step, completely or not at all.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        folder = self._context.run_folder / "checkpoints"
        keep = self._settings.max_checkpoints_to_keep
        with written_checkpoint(folder, position, max_to_keep=keep) as partial_folder:
            actor = partial_folder / "actor"
            self.actor_rollout_wg.save_policy(str(actor))
            for file in (actor / "huggingface").iterdir():
                shutil.move(file, partial_folder / file.name)
            (actor / "huggingface").rmdir()

    def _forward(self, data: TensorDict, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """[T] logprobs and entropies of the response tokens of all rows, concatenated."""
        tu.assign_non_tensor(
            data, calculate_entropy=True, compute_loss=False, temperature=temperature
        )
        output = self.actor_rollout_wg.compute_log_prob(data)
        mask = data["response_mask"]
        logprobs, entropy = (
            response_from_nested(tu.get(output, name), mask).values().float()
            for name in ("log_probs", "entropy")
        )
        return logprobs, entropy

    def _compare(
        self, logprobs: torch.Tensor, data: TensorDict, compared: torch.Tensor
    ) -> dict[str, float]:
        """Compare engine and trainer on tokens that the current weights sampled."""
        engine_logprobs = data["rollout_log_probs"].values()[compared]
        found = agreement(logprobs, engine_logprobs)
        common = self._settings
        bound = common.logprob_diff_bound if self._context.is_exact else None
        check_agreement(found, step=self.global_steps, bound=bound)
        return {
            "policy/logprob_diff_max": found["logprob_diff_max"],
            "policy/logprob_diff_mean": found["logprob_diff_mean"],
            "trinity/ppo_kl": float((engine_logprobs - logprobs).mean()),
        }

    def _correct(
        self, data: TensorDict, logprobs: torch.Tensor, is_trained: torch.Tensor
    ) -> dict[str, float]:
        """Apply truncated importance sampling to `data`, in place."""
        offsets = data["response_mask"].offsets()
        ratio = (logprobs - data["rollout_log_probs"].values()).exp()
        weight = ratio.clamp(max=self._cap)
        corrected = {
            "advantages": data["advantages"].values() * weight,
            "rollout_log_probs": torch.where(is_trained, logprobs, 0.0),
        }
        for name, values in corrected.items():
            data[name] = torch.nested.nested_tensor_from_jagged(values, offsets)
        return {
            "trinity/importance_weight": float(weight[is_trained].mean()),
            "trinity/importance_capped": float((ratio > self._cap)[is_trained].float().mean()),
        }

    def _update(
        self, data: TensorDict, rows_per_update: int, temperature: float
    ) -> dict[str, float]:
        optim = self._settings.optim
        tu.assign_non_tensor(
            data,
            calculate_entropy=self._settings.algorithm.entropy_coeff != 0,
            compute_loss=True,
            temperature=temperature,
            global_batch_size=rows_per_update,
            mini_batch_size=rows_per_update,
            epochs=1,
            seed=self._settings.seed,
            dataloader_kwargs={"shuffle": False},
            learning_rate=learning_rate(self.global_steps, optim, self._context.total_steps),
        )
        self.is_unfinished = True
        output = self.actor_rollout_wg.update_actor(data)
        found: dict[str, Any] = reduce_metrics(tu.get(output, "metrics"))
        if not math.isfinite(found["grad_norm"]):
            raise TrainingError(
                f"step {self.global_steps}: the norm of the gradient is {found['grad_norm']}, "
                "expected a finite number. Lower ajet.trainer_common.optim.lr"
            )
        self.is_unfinished = False
        return {
            "policy/loss": float(found["loss"]),
            "policy/grad_norm": float(found["grad_norm"]),
            "policy/clip_fraction": float(found["clipped"] / found["tokens"]),
            "policy/lr": learning_rate(self.global_steps, optim, self._context.total_steps),
        }


def _versions(rows: Sequence[WeightedSample | None]) -> np.ndarray:
    """[T] policy version of each response token of all rows; -1 for tokens not sampled."""
    parts = [
        np.full(1, -1) if row is None else row[0].policy_versions[int(row[0].loss_mask.argmax()) :]
        for row in rows
    ]
    return np.concatenate(parts)
