"""The local trainer: takes a step's samples, updates the weights, returns metrics."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from ajet.algorithm.policy_loss import PolicyLoss, policy_loss, token_logprobs
from ajet.backbone.local.micro_batches import (
    MicroBatch,
    check_forward,
    pack,
    plan_micro_batches,
    trained_logits,
)
from ajet.backbone.local.optimizer import PolicyOptimizer
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.engine.grammar import Grammars
from ajet.errors import TrainingError
from ajet.schema.episode import Sample
from ajet.training.loss_settings import loss_settings
from ajet.training.updates import WeightedSample, plan_updates, staleness

FORBIDDEN = -1e30
"""The logit of a token that a grammar forbids."""


class PolicyTrainer:
    """Trains a model in place, on its device and in its dtype.

    Args:
        model: a transformers causal LM; an engine may read the same weights between updates.
        settings: section `ajet.trainer_common`. With `use_kl_loss`, the reference is a frozen copy
            of the model as it is now: load a checkpoint into it afterwards.
        total_steps: of the run, where the learning rate's schedule ends.
        grammars: for samples with completions that had to match a grammar.

    Raises:
        ModelError: the model cannot be trained in this way.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: TrainerCommonConfig,
        *,
        total_steps: int,
        grammars: Grammars | None = None,
    ) -> None:
        check_forward(model)
        self.model = model
        self.optimizer = PolicyOptimizer(
            model.parameters(), settings.optim, total_steps=total_steps
        )
        self._settings = settings
        self._grammars = grammars
        self._reference = copy.deepcopy(model) if settings.use_kl_loss else None
        self._loss = loss_settings(settings)

    @property
    def updates(self) -> int:
        """Number of optimizer updates that were begun in this process."""
        return self.optimizer.updates

    def update(
        self, samples: Sequence[Sample], *, step: int, policy_version: int
    ) -> dict[str, float]:
        """Train on a step's samples and return metrics under their public names.

        `policy/logprob_diff_*` compare trainer and engine on tokens of the current policy version,
        in the first update only, because later updates have other weights. They are absent without
        such tokens, as is `policy/kl` without a reference model.

        Args:
            samples: with advantages that are not all 0; each has trained tokens.
            step: number of the step, from 1; determines learning rate and split.
            policy_version: version of the weights before the update.

        Raises:
            TrainingError: loss or gradient is not finite; the update was not applied.
        """
        metrics = UpdateMetrics(policy_version=policy_version, with_kl=self._reference is not None)
        for number, part in enumerate(plan_updates(samples, self._settings, step=step)):
            loss = self._backward(part, metrics, is_first=number == 0)
            if not math.isfinite(loss):
                raise TrainingError(f"step {step}: the loss is {loss}; nothing was updated")
            metrics.add_update(loss=loss, grad_norm=self.optimizer.update(step))
        return metrics.summary(samples)

    def _backward(
        self, weighted: list[WeightedSample], metrics: UpdateMetrics, *, is_first: bool
    ) -> float:
        """Add the gradient of one update's loss to the weights; returns the loss."""
        total = 0.0
        for rows in plan_micro_batches(
            [sample.ids for sample, _ in weighted],
            max_positions=self._settings.micro_batch_tokens,
            # Starting a micro-batch costs as much as so many positions: kernel launches on a GPU.
            fixed_cost=64 if self.model.device.type == "cpu" else 512,
        ):
            batch = pack([weighted[row] for row in rows])
            logprobs, result = self._forward(batch)
            result.loss.backward()  # type: ignore[no-untyped-call]
            total += float(result.loss.detach())
            metrics.add_micro_batch(batch, result)
            if is_first:
                computed = logprobs.detach().cpu().numpy()
                metrics.compare_logprobs(batch, computed)
                for index, row in enumerate(rows):
                    weighted[row][0].keep_trainer_logprobs(computed[batch.sample_index == index])
        return total

    def _forward(self, batch: MicroBatch) -> tuple[torch.Tensor, PolicyLoss]:
        """Logprobs [N] of a micro-batch's trained tokens, and their loss."""

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(self.model.device)

        targets, temperature = tensor(batch.targets), tensor(batch.temperature)
        forbidden = self._forbidden(batch)
        logprobs, entropy = token_logprobs(
            _without(trained_logits(self.model, batch.inputs), forbidden),
            targets,
            temperature,
            with_entropy_gradient=self._loss.entropy_coef != 0,
        )
        reference_logprobs = None
        if self._reference is not None:
            with torch.no_grad():
                reference_logits = _without(
                    trained_logits(self._reference, batch.inputs), forbidden
                )
                reference_logprobs, _ = token_logprobs(reference_logits, targets, temperature)
        result = policy_loss(
            logprobs=logprobs,
            entropy=entropy,
            old_logprobs=tensor(batch.old_logprobs),
            advantages=tensor(batch.advantages),
            weights=tensor(batch.weights),
            sample_index=tensor(batch.sample_index),
            settings=self._loss,
            reference_logprobs=reference_logprobs,
        )
        return logprobs, result

    def _forbidden(self, batch: MicroBatch) -> torch.Tensor | None:
        """[N, V] bool: the tokens that the engine could not sample; None if it could sample all."""
        if not batch.constrained:
            return None
        assert self._grammars is not None, "who samples with a grammar trains with it"
        vocab_size = self.model.config.get_text_config().vocab_size
        forbidden = np.zeros((len(batch.targets), vocab_size), np.bool_)
        for completion in batch.constrained:
            allowed = self._grammars.allowed_along(completion.grammar, completion.ids)
            forbidden[completion.rows] = ~allowed[completion.columns]
        return torch.from_numpy(forbidden).to(self.model.device)


def _without(logits: torch.Tensor, forbidden: torch.Tensor | None) -> torch.Tensor:
    """The logits [N, V] with a probability of 0 for forbidden tokens.

    Not minus infinity, of which the entropy would be NaN.
    """
    return logits if forbidden is None else logits.float().masked_fill(forbidden, FORBIDDEN)


class UpdateMetrics:
    """Collects the metrics `policy/...` and `staleness/...` of a step's updates."""

    def __init__(self, *, policy_version: int, with_kl: bool) -> None:
        self._policy_version = policy_version
        self._with_kl = with_kl
        self._losses: list[float] = []
        self._grad_norms: list[float] = []
        self._num_tokens = 0
        self._sums = np.zeros(3)
        self._logprob_diffs = [np.zeros(0, np.float32)]

    def add_micro_batch(self, batch: MicroBatch, result: PolicyLoss) -> None:
        """Add the sums of a micro-batch."""
        self._num_tokens += len(batch.targets)
        self._sums += [float(x) for x in (result.num_clipped, result.entropy_sum, result.kl_sum)]

    def compare_logprobs(self, batch: MicroBatch, logprobs: np.ndarray) -> None:
        """Compare the trainer's logprobs [N] with the engine's, for tokens of the same weights."""
        is_current = batch.policy_versions == self._policy_version
        self._logprob_diffs.append(np.abs(logprobs - batch.old_logprobs)[is_current])

    def add_update(self, *, loss: float, grad_norm: float) -> None:
        """Add one optimizer update."""
        self._losses.append(loss)
        self._grad_norms.append(grad_norm)

    def summary(self, samples: Sequence[Sample]) -> dict[str, float]:
        """The metrics under their public names, given all samples of the step."""
        clipped, entropy, kl = self._sums / self._num_tokens
        metrics = {
            "policy/loss": float(np.mean(self._losses)),
            "policy/grad_norm": float(np.mean(self._grad_norms)),
            "policy/clip_fraction": float(clipped),
            "policy/entropy": float(entropy),
        } | staleness(samples, self._policy_version)
        if self._with_kl:
            metrics["policy/kl"] = float(kl)
        diffs = np.concatenate(self._logprob_diffs)
        if len(diffs):
            metrics["policy/logprob_diff_max"] = float(diffs.max())
            metrics["policy/logprob_diff_mean"] = float(diffs.mean())
        return metrics
