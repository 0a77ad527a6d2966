"""Checks by a probe whether an engine computes with the trainer's weights."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ajet.errors import EngineError

PROBE_LENGTH = 48


def probe_ids(vocab_size: int, seed: int) -> list[int]:
    """48 random ids from the whole vocabulary, so that many embeddings take part."""
    draw = random.Random(f"probe/{seed}")
    return [draw.randrange(vocab_size) for _ in range(PROBE_LENGTH)]


def check_weights(
    served: Sequence[float],
    trained: np.ndarray,
    before: np.ndarray | None,
    *,
    bound: float,
    name: str,
) -> float:
    """Compare the probe's logprobs; returns the largest difference between engine and trainer.

    A difference within the bound still fails if the engine is closer to the weights before the
    update than to those after it: an update can change less than the bound allows.

    Args:
        served: [L] logprobs by the engine, nats.
        trained: [L] logprobs by the trainer with the weights that the engine should have.
        before: [L] logprobs by the trainer before the update; None: there was no update.
        bound: largest difference that rounding explains.
        name: names the engine in messages.

    Raises:
        EngineError: the engine has other weights.
    """
    difference = float(np.abs(np.asarray(served) - trained).max())
    if before is not None:
        to_old = float(np.abs(np.asarray(served) - before).max())
        changed = float(np.abs(trained - before).max())
        if to_old < difference and changed > 1e-6:
            raise EngineError(
                f"{name} still computes with the weights before the update: a probe's logprobs "
                f"differ by {difference:.2g} from the trainer's now, by {to_old:.2g} from those "
                "before. Nothing was sampled from them. The step is saved; continue with --resume"
            )
    if not difference <= bound:
        raise EngineError(
            f"{name} does not compute what the trainer does: a probe's logprobs differ by "
            f"{difference:.2g}, more than {bound:.2g} (ajet.trainer_common.logprob_diff_bound). "
            "Same weights in another dtype or with another attention differ by much less; a layer "
            "that keeps a packed copy of old weights looks like this"
        )
    return difference
