"""The LoRA adapter that is trained in place of a model's own weights.

Between updates, the adapter is merged into the weights, so that the engine computes nothing more
than without it, and everything that reads the model gets the tuned one. An update works with the
model's own weights and the adapter apart. The own weights are kept as they were loaded: merging
and subtracting again would change their last digits with every step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from ajet.config.sections.model import LoraConfig
from ajet.engine.embedded.load import import_peft
from ajet.errors import CheckpointError, ModelError
from ajet.model_files import ADAPTER_CONFIG, ADAPTER_PREFIX, ADAPTER_WEIGHTS

_MOST_NAMES = 12
"""Names of layers that a message shows."""


class Adapter:
    """An adapter in a model's linear layers, merged except within `separate`.

    Args:
        model: gets the adapter, in place.
        settings: section `ajet.lora`, with a rank above 0.
        base_name: the base model's folder or hub name, for the files of the adapter.
        seed: draws the adapter's first weights.

    Raises:
        ModelError: the layers of `settings` are not those of the model.
        MissingExtraError: PEFT is not installed.
    """

    def __init__(
        self, model: PreTrainedModel, settings: LoraConfig, *, base_name: str, seed: int
    ) -> None:
        self._model = model
        self._settings = settings
        self._base_name = base_name
        self._layers = add_adapter(model, settings, seed=seed)
        self._own: dict[str, torch.Tensor] = {}
        self._merge()

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(weight.numel() for weight in self._weights().values())

    @contextmanager
    def separate(self) -> Iterator[None]:
        """Within it, the model computes with its own weights plus the adapter, which has gradients.

        It may be nested. At the end, the adapter is merged as it is then.
        """
        if not self._own:
            yield
            return
        for name, layer in self._layers.items():
            layer.get_base_layer().weight.data = self._own[name]
            layer.merged_adapters.clear()
        self._own = {}
        try:
            yield
        finally:
            self._merge()

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Within it, a separate model computes what it did before it was tuned."""
        assert not self._own, "merged weights have the adapter in them"
        for layer in self._layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.enable_adapters(True)

    def merged_state(self) -> dict[str, torch.Tensor]:
        """The tuned model's weights under the names that they have in the base model."""
        assert self._own, "the adapter is not merged now"
        return {
            name.replace(".base_layer.", "."): weight
            for name, weight in self._model.state_dict().items()
            if ".lora_" not in name
        }

    def save(self, folder: Path) -> None:
        """Write the adapter in PEFT's format."""
        write_adapter_files(
            folder,
            self._weights(),
            base_name=self._base_name,
            rank=self._settings.lora_rank,
            alpha=self._settings.lora_alpha,
            modules=self._layers,
        )

    def load(self, folder: Path) -> None:
        """Take the weights that `save` wrote.

        Raises:
            CheckpointError: they are those of other layers, or of another rank.
        """
        stored = load_file(folder / ADAPTER_WEIGHTS)
        saved = {name.removeprefix(ADAPTER_PREFIX): weight for name, weight in stored.items()}
        own = self._weights()
        if {n: w.shape for n, w in saved.items()} != {n: w.shape for n, w in own.items()}:
            raise CheckpointError(
                f"{folder}: its adapter has another rank or other layers than ajet.lora says now; "
                "resume with the settings that the run began with"
            )
        with self.separate(), torch.no_grad():
            for name, weight in own.items():
                weight.copy_(saved[name])

    def _merge(self) -> None:
        self._own = {}
        for name, layer in self._layers.items():
            base = layer.get_base_layer()
            self._own[name] = base.weight.data
            base.weight.data = base.weight.data.clone()
            layer.merge()

    def _weights(self) -> dict[str, torch.Tensor]:
        """The adapter's weights under the names that PEFT gives them in files."""
        return {
            name.replace(".default.", "."): weight.detach()
            for name, weight in self._model.named_parameters()
            if weight.requires_grad
        }


def write_adapter_files(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    *,
    base_name: str,
    rank: int,
    alpha: int,
    modules: Iterable[str],
) -> None:
    """Write an adapter in PEFT's format.

    Args:
        folder: an existing folder.
        weights: under names such as `model.layers.0.mlp.up_proj.lora_A.weight`.
        base_name: the base model's folder or hub name.
        rank: of the adapter.
        alpha: its product is multiplied by `alpha / rank`.
        modules: names of the layers that have the adapter.
    """
    named = {f"{ADAPTER_PREFIX}{name}": weight.contiguous() for name, weight in weights.items()}
    save_file(named, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(modules),
        "inference_mode": True,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n")


def add_adapter(model: PreTrainedModel, settings: LoraConfig, *, seed: int) -> dict[str, Any]:
    """Put an adapter that changes nothing yet into the layers of a model; freeze the others.

    Args:
        model: changed in place. It keeps its class, and its outputs stay the same.
        settings: with a rank above 0.
        seed: draws one of the adapter's two matrices; the other one is 0.

    Returns:
        Name of each layer that has an adapter now, and its `LoraLayer` of PEFT.

    Raises:
        ModelError: there are no such layers, or layers that cannot be merged.
        MissingExtraError: PEFT is not installed.
    """
    peft = import_peft()
    linear = _linear_layers(model)
    _check_names("target_modules", settings.target_modules, model, linear)
    _check_names("exclude_modules", settings.exclude_modules or [], model, linear)
    config = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=settings.target_modules,
        exclude_modules=settings.exclude_modules,
        task_type="CAUSAL_LM",
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(config, model)
    except ValueError as error:
        # The message has the whole text of a module, in many lines.
        reason = "names layers that are not linear"
        if "not found" in str(error):
            reason = "no layer has such a name"
        raise _refusal(f"{_shown(settings.target_modules)}: {reason}", linear) from error
    model.eval()  # type: ignore[no-untyped-call]
    kind = peft.tuners.lora.LoraLayer
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, kind)}
    tied = set(_tied_layers(model, linear))
    for name in layers:
        if name not in linear:
            raise _refusal(f"{name} is no linear layer, so it cannot be merged", linear)
        if name in tied:
            raise _refusal(f"the weights of {name} are also those of the embeddings", linear)
    return layers


def _linear_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.Linear)}


def _tied_layers(model: PreTrainedModel, linear: dict[str, nn.Linear]) -> Iterator[str]:
    """Linear layers whose weight is also that of an embedding."""
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    for name, layer in linear.items():
        if any(layer.weight is embedding.weight for embedding in embeddings):
            yield name


def _check_names(
    key: str, given: str | list[str], model: PreTrainedModel, linear: dict[str, nn.Linear]
) -> None:
    """Refuse a name in a list that no layer has: PEFT only notices if there is none at all."""
    if isinstance(given, str):
        return
    names = [name for name, _ in model.named_modules()]
    for each in given:
        if not any(name == each or name.endswith(f".{each}") for name in names):
            raise _refusal(f"no layer is named {each}", linear, key)


def _refusal(what: str, linear: dict[str, nn.Linear], key: str = "target_modules") -> ModelError:
    """The error for wrong names, with those of the layers that there are."""
    known = list(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    shown = ", ".join(known[:_MOST_NAMES]) + (", ..." if len(known) > _MOST_NAMES else "")
    return ModelError(f"ajet.lora.{key}: {what}; use all-linear, or some of {shown}")


def _shown(modules: str | list[str]) -> str:
    return modules if isinstance(modules, str) else ", ".join(modules)
