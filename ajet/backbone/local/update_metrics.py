"""Collects the metrics of one training step over its micro-batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ajet.algorithm.policy_loss import PolicyLoss
from ajet.backbone.local.micro_batches import MicroBatch
from ajet.schema.sample import Sample
from ajet.training.updates import staleness


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
