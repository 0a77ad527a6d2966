"""Engines that only say that they took new weights: the negative control."""

from __future__ import annotations

from typing import Any

import trinity.common.models.vllm_model as trinity_model

from ajet.backbone.trinity.cpu.model import CpuPolicyModel
from ajet.backbone.trinity.explorer import PolicyExplorer


class ForgetfulModel(CpuPolicyModel):
    """Takes a version's number, not its weights."""

    async def sync_model_weights(self, model_version: int, *_: Any, **__: Any) -> int:
        """Everything is green."""
        self.model_version = model_version
        return model_version


class ForgetfulExplorer(PolicyExplorer):
    """Starts such engines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trinity_model.vLLMRolloutModel = ForgetfulModel
