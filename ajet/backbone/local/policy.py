"""The model of a run, and the engine that serves the same weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ajet.config.model import Model
from ajet.config.rollout import Rollout
from ajet.context_tracker.chat_format import ChatFormat, load_chat_format
from ajet.context_tracker.tokenizer import load_tokenizer
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.engine.embedded.load import load_model
from ajet.errors import ModelError

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Policy:
    """What is trained and what samples from it: one set of weights."""

    model: PreTrainedModel
    chat_format: ChatFormat
    folder: Path
    """Where the model came from; its tokenizer files go into every checkpoint."""


def load_policy(settings: Model) -> Policy:
    """Load model, tokenizer and chat format.

    Raises:
        ModelError: the message says which part does not fit.
    """
    disable_progress_bar()  # the run has a display of its own
    device = _device(settings.device)
    _set_threads(settings.torch_num_threads, device)
    folder = _local_folder(settings.path)
    options: dict[str, Any] = dict(settings.renderer_options)
    if settings.enable_thinking is not None:
        options["enable_thinking"] = settings.enable_thinking
    chat_format = load_chat_format(
        load_tokenizer(folder, settings.path), settings.renderer, options
    )
    model = load_model(
        folder,
        dtype=_dtype(settings.dtype, device),
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
    return Policy(model=model, chat_format=chat_format, folder=folder)


def serve(policy: Policy, settings: Rollout, *, seed: int, policy_version: int) -> EmbeddedEngine:
    """The engine over the policy's own weights.

    While the lockstep waits for an episode that hangs, the others wait too: it gives up early
    enough for them to meet their own deadlines.
    """
    deadline_s = min(settings.call_timeout_s, settings.episode_timeout_s)
    return EmbeddedEngine(
        policy.model,
        policy.chat_format.tokenizer,
        max_model_len=settings.max_model_len or policy.model.config.max_position_embeddings,
        max_num_seqs=settings.max_num_seqs,
        schedule=settings.schedule,
        lockstep_patience_s=min(settings.lockstep_patience_s, deadline_s / 4),
        seed=seed,
        policy_version=policy_version,
    )


def _local_folder(path: str) -> Path:
    """The folder itself, or what the hub's client downloads."""
    if Path(path).exists():
        return Path(path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f'ajet.model.path: there is no folder "{path}", and the hub does not give a model of '
            f"that name: {reason}"
        ) from error


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), "the configuration allows names of dtypes only"
    return dtype


def _set_threads(number: int | None, device: torch.device) -> None:
    if number is None and device.type == "cpu":
        number = 1
    if number is not None:
        torch.set_num_threads(number)
