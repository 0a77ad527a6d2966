"""An extension of vLLM's workers: new weights, and logprobs that a trainer can recompute.

Start vLLM with `--worker-extension-cls ajet.engine.vllm.worker.PolicyWorker`. Its methods are
called through vLLM's `/collective_rpc`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.v1.outputs import SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p
from vllm.v1.sample.sampler import Sampler

from ajet.model_files import read_header

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The names of safetensors' format."""


class PolicyWorker:
    """Methods that vLLM adds to its worker class."""

    model_runner: Any
    """An attribute of vLLM's worker."""

    def ajet_prepare(self) -> None:
        """Make the sampler return logprobs as `Generation.logprobs` defines them; idempotent."""
        sampler = self.model_runner.sampler
        if not isinstance(sampler, TemperedSampler):
            sampler.__class__ = TemperedSampler
            sampler.topk_topp_sampler.forward = partial(
                draw_with_seeds, sampler.topk_topp_sampler.forward
            )

    def ajet_load_weights(self, weights: str) -> None:
        """Replace the weights in place by those in a folder in Hugging Face format."""
        self.model_runner.reload_weights(weights_iterator=tensors_of(Path(weights)))
        repack_tied_head(self.model_runner.get_model())


def repack_tied_head(model: torch.nn.Module) -> None:
    """Pack tied output heads again from the embeddings that they share weights with."""
    # On a CPU, vLLM 0.28 computes with a packed copy of the head. A reload packs only modules that
    # are in the checkpoint. A tied head is not, so it would keep the old weights without an error.
    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)


class TemperedSampler(Sampler):
    """A sampler whose logprobs are log softmax(logits / temperature), before top-k and top-p.

    vLLM itself offers logprobs before the temperature, or after top-k and top-p.
    """

    _temperature: torch.Tensor | None = None

    def forward(
        self, logits: torch.Tensor, sampling_metadata: SamplingMetadata, *args: Any, **kwargs: Any
    ) -> SamplerOutput:
        """Sample one token per row."""
        self._temperature = sampling_metadata.temperature  # [B]; None: all rows are greedy
        try:
            return super().forward(logits, sampling_metadata, *args, **kwargs)
        finally:
            self._temperature = None

    def compute_logprobs(self, logits: torch.Tensor) -> torch.Tensor:
        """[B, V] logprobs in float32, at the rows' temperatures; those of a prompt at 1."""
        if self._temperature is not None:
            greedy = self._temperature < 1e-5
            logits = logits / self._temperature.masked_fill(greedy, 1.0).unsqueeze(1)
        return logits.log_softmax(dim=-1, dtype=torch.float32)


def draw_with_seeds(
    draw_without: Callable[..., tuple[torch.Tensor, None]],
    logits: torch.Tensor,
    generators: Mapping[int, torch.Generator],
    k: torch.Tensor | None,
    p: torch.Tensor | None,
) -> tuple[torch.Tensor, None]:
    """Sample one token per row from a single uniform number, by the row's generator if it has one.

    vLLM 0.28 draws a number per token of the vocabulary for each row that has a seed. On a CPU it
    ignores the seeds of a batch in which only some rows have one.

    Args:
        draw_without: vLLM's own function, used if no row has a seed.
        logits: [B, V], already divided by the temperature.
        generators: generators of the rows with a seed, by row.
        k: [B], top-k.
        p: [B], top-p.
    """
    if not generators:
        return draw_without(logits, generators, k, p)
    probabilities = apply_top_k_top_p(logits, k, p).softmax(dim=-1, dtype=torch.float32)
    cumulated = probabilities.cumsum(dim=-1, dtype=torch.float64)
    uniforms = torch.rand(len(logits), 1, dtype=torch.float64, device=logits.device)
    for row, generator in generators.items():
        uniforms[row].uniform_(generator=generator)
    tokens = torch.searchsorted(cumulated, uniforms * cumulated[:, -1:], right=True)
    return tokens[:, 0].clamp_(max=logits.shape[-1] - 1), None


def tensors_of(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and content of all tensors in a folder's safetensors files, without copying them."""
    # Not by `safe_open`: safetensors 0.8 never releases two integers for each tensor that it reads,
    # which adds up over thousands of updates.
    for file in sorted(folder.glob("*.safetensors")):
        header, first = read_header(file)
        mapped = torch.from_file(str(file), size=file.stat().st_size, dtype=torch.uint8)
        for name in sorted(header):
            begin, end = (first + offset for offset in header[name]["data_offsets"])
            values = mapped[begin:end].view(_DTYPES[header[name]["dtype"]])
            yield name, values.view(header[name]["shape"])
