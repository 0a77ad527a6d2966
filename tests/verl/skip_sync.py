"""Loaded by verl's processes in the negative control: only the first sync sends weights."""

from __future__ import annotations

from typing import Any

from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

_update_weights = ServerAdapter.update_weights


async def _only_once(self: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
    if getattr(self, "sent_once", False):
        for _ in weights:
            pass
        return None
    self.sent_once = True
    return await _update_weights(self, weights, *args, **kwargs)


ServerAdapter.update_weights = _only_once
