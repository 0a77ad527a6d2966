"""Loads the model that is trained, with its tokenizer and chat format."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ajet.backbone.local.adapter import Adapter
from ajet.config.sections.model import LoraConfig, ModelConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.engine.embedded.load import load_model
from ajet.engine.grammar import Grammars
from ajet.model_files import adapter_base
from ajet.training.model_folder import chat_format_of, device_of, model_folder, whole_model

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class LocalPolicy:
    """A loaded model and its chat format."""

    model: PreTrainedModel
    chat_format: ChatFormat
    folder: Path
    """The model's folder; its tokenizer files are copied into every checkpoint. Of an adapter: that
    of its base model."""
    has_weights_of_folder: bool
    """True if the folder has exactly these weights, so that an engine may load them from it."""
    adapter: Adapter | None = None
    """What is trained in place of the model's own weights."""

    @property
    def grammars(self) -> Grammars:
        """Compiles the grammars of requests for this model."""
        return Grammars(
            self.chat_format.tokenizer.folder / "tokenizer.json",
            vocab_size=self.model.config.get_text_config().vocab_size,
            stop_token_ids=self.chat_format.stop_token_ids,
        )


def load_policy(
    settings: ModelConfig, lora: LoraConfig | None = None, *, seed: int = 0
) -> LocalPolicy:
    """Load model, tokenizer and chat format.

    Args:
        settings: section `ajet.model`. An adapter in the folder is merged into its base model.
        lora: section `ajet.lora`, to train a new adapter. None: all weights are the model's own.
        seed: draws the new adapter's first weights.

    Raises:
        ModelError: a part cannot be loaded; the message says which.
    """
    # The run has a progress display of its own.
    disable_progress_bar()  # type: ignore[no-untyped-call]
    device = chosen_device(settings.device)
    _set_threads(settings.torch_num_threads, device)
    folder = model_folder(settings.path)
    chat_format = chat_format_of(settings, folder)
    model = load_model(
        folder,
        dtype=chosen_dtype(settings.dtype, device),
        device=device,
        attn_implementation=settings.attn_implementation,
    )
    logger.info(
        "%s: %.1f million parameters, %s on %s, %d torch thread(s)",
        settings.path,
        model.num_parameters() / 1e6,
        str(model.dtype).removeprefix("torch."),
        device,
        torch.get_num_threads(),
    )
    adapter = None
    if lora is not None and lora.lora_rank:
        name = settings.path if not Path(settings.path).exists() else str(folder.resolve())
        adapter = Adapter(model, lora, base_name=name, seed=seed)
        logger.info(
            "LoRA of rank %d: %.3f million parameters are trained",
            lora.lora_rank,
            adapter.num_parameters / 1e6,
        )
    return LocalPolicy(
        model=model,
        chat_format=chat_format,
        folder=whole_model(folder),
        has_weights_of_folder=adapter_base(folder) is None,
        adapter=adapter,
    )


def chosen_device(name: str) -> torch.device:
    """The device that `model.device` means on this machine."""
    return torch.device(device_of(name))


def chosen_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype that `model.dtype` means on that device."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), "the configuration allows names of dtypes only"
    return dtype


def _set_threads(number: int | None, device: torch.device) -> None:
    # On a CPU, one thread makes results independent of the number of cores.
    if number is None and device.type == "cpu":
        number = 1
    if number is not None:
        torch.set_num_threads(number)
