"""Whether vLLM computes with an exported folder what transformers computes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import torch

from ajet.engine.vllm.engine import VllmEngine
from ajet.training.weight_sync_check import probe_ids
from tests.vllm.conftest import make_server

BOUND = 1e-4


def logprobs(folder: Path, ids: list[int]) -> np.ndarray:
    """[L - 1] logprobs of all ids but the first, by transformers in float32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = torch.tensor([ids])
    with torch.no_grad():
        found = model(input_ids=rows).logits[0, :-1].log_softmax(-1)
    return found.gather(1, rows[0, 1:, None])[:, 0].numpy()


def largest_difference_in_vllm(folder: Path, log: Path) -> float:
    """Serve the folder with the real vLLM, and compare the logprobs of a probe."""
    ids = probe_ids(600, seed=0)
    server = make_server(folder, log)
    server.start()
    engine = VllmEngine(servers=[server])
    try:
        [served] = asyncio.run(engine.prompt_logprobs(ids))
    finally:
        asyncio.run(engine.aclose())
    return float(np.abs(np.asarray(served) - logprobs(folder, ids)).max())
