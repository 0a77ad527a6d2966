"""Whether engine and trainer compute the same: else the weights did not arrive."""

from __future__ import annotations

import torch

from ajet.errors import TrainingError

LEAST_CORRELATION = 0.99
CORRELATION = "training/rollout_actor_probs_pearson_corr"
"""As verl names it."""


def agreement(trainer: torch.Tensor, engine: torch.Tensor) -> dict[str, float]:
    """How the logprobs [N] of the same tokens differ, and how their probabilities correlate.

    Without two different probabilities there is no correlation, and its name is left out.
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
    """Stop where engine and trainer disagree.

    Args:
        metrics: as `agreement` gives them.
        step: for the message.
        bound: of the difference of one logprob; None: the weights are too coarse for one.

    Raises:
        TrainingError: they do.
    """
    correlation = metrics.get(CORRELATION, 1.0)
    difference = metrics["logprob_diff_max"]
    if correlation > LEAST_CORRELATION and (bound is None or difference <= bound):
        return
    raise TrainingError(
        f"step {step}: vLLM and the trainer disagree about the tokens that vLLM sampled: their "
        f"probabilities correlate by {correlation:.4f} (must be above {LEAST_CORRELATION}), one "
        f"logprob differs by {difference:.2g} (bound: {bound}). The weights of the last update "
        "did not arrive in vLLM, or it computes something else (dtype, attention, quantization). "
        "Nothing was trained on these samples"
    )
