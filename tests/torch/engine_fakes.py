"""An embedded engine over a small random model, and callers for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.schema.episode import Generation


class Numbers:
    """Each token is its number and a space."""

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(f"{token} " for token in token_ids)


@contextlib.asynccontextmanager
async def serving(model: PreTrainedModel, **options: Any) -> AsyncIterator[EmbeddedEngine]:
    options = {"max_model_len": 256, "max_num_seqs": 8, "schedule": "continuous"} | options
    engine = EmbeddedEngine(model, Numbers(), **options)
    try:
        yield engine
    finally:
        await engine.aclose()


def with_engine(
    model: PreTrainedModel, use: Callable[[EmbeddedEngine], Awaitable[Any]], **options: Any
) -> Any:
    """What `use(engine)` returns; the engine is closed afterwards."""

    async def run() -> Any:
        async with serving(model, **options) as engine:
            return await asyncio.wait_for(use(engine), timeout=300)

    return asyncio.run(run())


@torch.no_grad()
def own_logprobs(
    model: PreTrainedModel, prompt: list[int], generation: Generation, temperature: float = 1.0
) -> list[float]:
    """[C] of the completion by one plain forward of the stock model."""
    ids = torch.tensor([[*prompt, *generation.token_ids]])
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    logprobs = (logits / temperature).log_softmax(-1)
    return logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0].tolist()
