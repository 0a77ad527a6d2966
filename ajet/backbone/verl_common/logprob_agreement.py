"""Checks that engine and trainer compute the same logprobs, that is, have the same weights."""

from __future__ import annotations

import torch

from ajet.errors import TrainingError

LEAST_CORRELATION = 0.99
CORRELATION = "training/rollout_actor_probs_pearson_corr"
"""verl's name of the metric."""


def agreement(trainer: torch.Tensor, engine: torch.Tensor) -> dict[str, float]:
    """Compare the logprobs [N] of the same tokens by trainer and engine.

    The correlation is left out if all probabilities on one side are equal: it is undefined then.
    """
    difference = (trainer - engine).abs()
    metrics = {
        "logprob_diff_max": float(difference.max()),
        "logprob_diff_mean": float(difference.mean()),
    }
    probabilities = torch.stack([trainer, engine]).double().exp()
    if len(trainer) > 1 and bool((probabilities.std(1) > 0).all()):
        metrics[CORRELATION] = float(torch.corrcoef(probabilities)[0, 1])
    return metrics


def check_agreement(metrics: dict[str, float], *, step: int, bound: float | None) -> None:
    """Raise an error if engine and trainer disagree.

    Args:
        metrics: the result of `agreement`.
        step: number of the step, for the message.
        bound: largest accepted difference of one logprob; None: not checked, because the dtype of
            the weights is too coarse.

    Raises:
        TrainingError: the correlation is too low or a difference is above the bound.
    """
    correlation = metrics.get(CORRELATION, 1.0)
    difference = metrics["logprob_diff_max"]
    if correlation > LEAST_CORRELATION and (bound is None or difference <= bound):
        return
    raise TrainingError(
        f"step {step}: vLLM and the trainer disagree about the tokens that vLLM sampled: their "
        f"probabilities correlate by {correlation:.4f} (must be above {LEAST_CORRELATION}), one "
        f"logprob differs by {difference:.2g} (bound: {bound}). The weights of the last update "
        "did not arrive in vLLM, or vLLM computes something else: compare dtype, attention and "
        "quantization. These samples were not trained"
    )
