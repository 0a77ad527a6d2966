"""Logprobs of a saved model, to compare with those that a run recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from ajet.schema.episode import Sample


def largest_difference(model_folder: Path, samples: Sequence[Sample]) -> float:
    """Largest difference between the recorded logprobs and those of the saved model."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    largest = 0.0
    for sample in samples:
        ids = torch.from_numpy(sample.ids.astype(np.int64))
        with torch.no_grad():
            logprobs = model(ids[None]).logits[0, :-1].log_softmax(-1)
        found = logprobs.gather(1, ids[1:, None])[:, 0].numpy()
        mask = sample.loss_mask[1:]
        largest = max(largest, float(np.abs(found - sample.logprobs[1:])[mask].max()))
    return largest
