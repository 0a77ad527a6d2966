"""verl's policy worker, which merges a LoRA adapter into the weights that leave the trainer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from verl.single_controller.base.decorator import Dispatch, register

from ajet.backbone.verl_common.merged_lora import (
    merged_weights,
    refuse_other_layers,
    save_merged,
)
from ajet.backbone.verl_common.worker import VerlPolicyWorker


class LoraPolicyWorker(VerlPolicyWorker):
    """Sends and saves merged weights. Without an adapter, it behaves like its base class."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        """Build the training engines."""
        super().init_model()
        engine = self.actor.engine
        if engine._is_lora:
            refuse_other_layers(engine.module)
            engine._merged_lora_per_tensor_param = partial(merged_weights, engine)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the state that verl resumes from, and the merged model in Hugging Face format."""
        super().save_checkpoint(local_path, *args, **kwargs)
        if self.actor.engine._is_lora:
            save_merged(self.actor.engine, Path(local_path) / "huggingface", rank=self.rank)
