"""Writes a model with another dtype or as an adapter, and checks it against the engine."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ajet.backbone.local.adapter import write_adapter_files
from ajet.backbone.local.checkpoint import TOKENIZER_FILES
from ajet.context_tracker.chat_format import load_tokenizer
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.engine.embedded.load import load_model
from ajet.errors import ModelError
from ajet.model_files import ADAPTER_CONFIG, ADAPTER_PREFIX, ADAPTER_WEIGHTS
from ajet.schema.episode import Generation, Sample, SamplingParams
from ajet.training.model_folder import whole_model

NUM_TOKENS = 24
"""Tokens that the engine samples after each prompt of the check."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Sampled:
    """What the engine sampled after a prompt, with the model in the checkpoint."""

    prompt_ids: list[int]
    token_ids: list[int]
    logprobs: list[float]


def write_model(checkpoint: Path, folder: Path, dtype: str | None) -> str:
    """Write the model and its tokenizer; returns the dtype of its weights.

    Args:
        checkpoint: the model's folder.
        folder: an empty folder.
        dtype: None: as in the checkpoint.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    model = load_model(checkpoint, dtype=_dtype(dtype or stored_dtype(checkpoint)))
    with _full_disk_reported():
        model.save_pretrained(folder)
    _copy_tokenizer(checkpoint, folder)
    return str(model.dtype).removeprefix("torch.")


@contextmanager
def _full_disk_reported() -> Iterator[None]:
    """Turn the error of safetensors about a disk that is full into an OSError."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error


def stored_dtype(folder: Path) -> str:
    """The dtype that a model's `config.json` names; of an adapter, that of its base model."""
    config = json.loads((whole_model(folder) / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    return str(name)


def copy_adapter(checkpoint: Path, folder: Path) -> None:
    """Write the adapter that a checkpoint has, with its tokenizer."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(checkpoint / name, folder / name)
    _copy_tokenizer(checkpoint, folder)


def write_adapter(base: Path, checkpoint: Path, folder: Path, rank: int, base_name: str) -> None:
    """Write what the run changed as a LoRA adapter in PEFT's format.

    A LoRA run of verl changes each weight by a product of rank `rank`. Its checkpoint has the sum,
    so the product is computed back from the difference, which it equals up to rounding.

    Args:
        base: folder of the base model.
        checkpoint: folder of the merged model.
        folder: an empty folder.
        rank: of the run's adapter.
        base_name: the base model's name, for `adapter_config.json`.

    Raises:
        ModelError: the difference is not that of such an adapter.
    """
    tensors: dict[str, torch.Tensor] = {}
    modules = set()
    for name, change in _changes(base, checkpoint):
        down, up = _factors(name, change, rank)
        module = name.removesuffix(".weight")
        tensors[f"{module}.lora_A.weight"] = down
        tensors[f"{module}.lora_B.weight"] = up
        modules.add(module.rpartition(".")[2])
    if not tensors:
        raise ModelError(f"{checkpoint} has the weights of the base model: there is no adapter")
    # With alpha = rank the scale is 1: the scale of the run is part of the product.
    with _full_disk_reported():
        write_adapter_files(
            folder, tensors, base_name=base_name, rank=rank, alpha=rank, modules=modules
        )
    _copy_tokenizer(checkpoint, folder)


def sample_with_engine(
    checkpoint: Path, prompts: Sequence[Sequence[int]], dtype: str, seed: int
) -> list[Sampled]:
    """Let the embedded engine, with the checkpoint in that dtype, continue each prompt."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    model = load_model(checkpoint, dtype=_dtype(dtype))
    model = model.to(torch.float32)  # type: ignore[arg-type]
    longest = max(map(len, prompts)) + NUM_TOKENS
    engine = EmbeddedEngine(
        model, load_tokenizer(checkpoint, str(checkpoint)), max_model_len=longest, seed=seed
    )

    async def all_of_them() -> list[Generation]:
        params = SamplingParams(max_tokens=NUM_TOKENS, temperature=1.0, seed=seed)
        try:
            return [
                await engine.generate(list(ids), params, session=f"export-{number}")
                for number, ids in enumerate(prompts)
            ]
        finally:
            await engine.aclose()

    return [
        Sampled(
            prompt_ids=list(ids),
            token_ids=list(found.token_ids),
            logprobs=list(found.logprobs),
        )
        for ids, found in zip(prompts, asyncio.run(all_of_them()), strict=True)
    ]


def load_exported(folder: Path, base: Path | None) -> PreTrainedModel:
    """The exported model in float32; an adapter is added to its base model."""
    if base is None:
        return load_model(folder, dtype=torch.float32)
    from safetensors.torch import load_file

    model = load_model(base)
    weights = dict(model.named_parameters())
    adapter = load_file(folder / ADAPTER_WEIGHTS)
    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    scale = settings["lora_alpha"] / settings["r"]
    with torch.no_grad():
        for name, down in adapter.items():
            if ".lora_A." in name:
                target = name.removeprefix(ADAPTER_PREFIX).replace(".lora_A.", ".")
                up = adapter[name.replace(".lora_A.", ".lora_B.")]
                weights[target].add_(scale * (up.float() @ down.float()))
    return model


@torch.no_grad()
def largest_difference(model: PreTrainedModel, sampled: Sequence[Sampled]) -> float:
    """Largest difference of a logprob between the model and the engine, nats."""
    largest = 0.0
    for each in sampled:
        ids = torch.tensor([[*each.prompt_ids, *each.token_ids]], device=model.device)
        logits = model(input_ids=ids).logits[0, len(each.prompt_ids) - 1 : -1].float()
        found = logits.log_softmax(-1).gather(1, ids[0, len(each.prompt_ids) :, None])[:, 0]
        difference = float((found.cpu() - torch.tensor(each.logprobs)).abs().max())
        largest = float(np.maximum(largest, difference))  # max() would lose a NaN
    return largest


@torch.no_grad()
def difference_to_record(
    model: PreTrainedModel, samples: Sequence[Sample], policy_version: int
) -> float | None:
    """Largest difference to the logprobs that the run recorded with these weights, nats.

    Returns:
        None: the samples have no token that these weights sampled.
    """
    largest = None
    for sample in samples:
        chosen = torch.tensor(sample.loss_mask & (sample.policy_versions == policy_version))
        if not chosen[1:].any():
            continue
        ids = torch.tensor(sample.ids, dtype=torch.long, device=model.device)[None]
        logits = model(input_ids=ids).logits[0, :-1].float().cpu()
        temperature = torch.tensor(sample.temperature)[1:].clamp(min=1e-6)
        logprobs = (logits / temperature[:, None]).log_softmax(-1)
        found = logprobs.gather(1, ids[0, 1:, None].cpu())[:, 0]
        differences = (found - torch.tensor(sample.logprobs)[1:]).abs()[chosen[1:]]
        largest = float(np.maximum(largest or 0.0, float(differences.max())))
    return largest


def _changes(base: Path, checkpoint: Path) -> Iterator[tuple[str, torch.Tensor]]:
    before, after = load_model(base), load_model(checkpoint)
    layers = {
        f"{name}.weight"
        for name, module in before.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    if old.keys() != new.keys():
        raise ModelError(f"{checkpoint} and {base} do not have the same weights")
    for name, weight in new.items():
        change = (weight - old[name]).detach()
        if not change.any():
            continue
        if name not in layers:
            raise ModelError(f"{name} has changed, but an adapter changes linear layers only")
        yield name, change


def _factors(name: str, change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two matrices with this product: [rank, in] and [out, rank]."""
    left, values, right = torch.linalg.svd(change.double(), full_matrices=False)
    rest = float(values[rank:].sum() / values.sum())
    if rest > 0.01:
        raise ModelError(f"the change of {name} is not of rank {rank}: {rest:.1%} is beyond it")
    root = values[:rank].sqrt()
    down, up = root[:, None] * right[:rank], left[:, :rank] * root
    return down.float().contiguous(), up.float().contiguous()


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for pattern in TOKENIZER_FILES:
        for file in source.glob(pattern):
            shutil.copyfile(file, folder / file.name)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(f"there is no dtype {name}")
    return dtype
