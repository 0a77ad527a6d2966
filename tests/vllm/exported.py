"""Whether an exported folder computes what the run computed, in transformers and in vLLM."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import torch

from ajet.engine.vllm.engine import VllmEngine
from ajet.export.export import export
from ajet.launcher.run_folder import checkpoint_of
from ajet.training.weight_sync_check import probe_ids
from tests.vllm.conftest import make_server

BOUND = 1e-4


def assert_export_agrees(
    run: Path, step: int, to: Path, *, in_vllm: bool = False, recorded_by_engine: bool = False
) -> None:
    """Export a step of a run, and compare the logprobs of who loads it.

    Args:
        run: the run's folder.
        step: the checkpoint's step.
        to: where to write.
        in_vllm: start a real vLLM with the exported folder, too.
        recorded_by_engine: the run recorded what its engine computed with these weights.
    """
    folder = to / "model"
    made = export(run, step=str(step), to=folder, dtype="float32", lora="merge")
    assert made.difference < BOUND
    if recorded_by_engine:
        assert made.recorded is not None
        assert made.recorded < BOUND
    ids = probe_ids(600, seed=0)
    saved = logprobs(checkpoint_of(run, str(step))[1], ids)
    assert np.abs(logprobs(folder, ids) - saved).max() < BOUND
    if in_vllm:
        assert largest_difference_in_vllm(folder, to / "vllm.log") < BOUND


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
