"""What runs inside vLLM's workers: new weights, and logprobs that a trainer can compute again.

Given to vLLM as `--worker-extension-cls ajet.engine.vllm.worker.PolicyWorker`; called through its
`/collective_rpc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.v1.outputs import SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler


class PolicyWorker:
    """Methods that vLLM adds to its worker class; `model_runner` is the worker's."""

    model_runner: Any

    def ajet_prepare(self) -> None:
        """From now on, logprobs are those of `Generation.logprobs`. A second call does nothing."""
        self.model_runner.sampler.__class__ = TemperedSampler

    def ajet_load_weights(self, weights: str) -> None:
        """Replace the weights in place by those of a folder in Hugging Face's format."""
        self.model_runner.reload_weights(weights_iterator=_tensors(Path(weights)))
        for module in self.model_runner.get_model().modules():
            # A tied output head is never loaded itself, so that on a CPU the prepacked copy that it
            # computes with keeps the old weights, with every status green.
            if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)


class TemperedSampler(Sampler):
    """Gives log softmax(logits / temperature) before top-k and top-p cut the tail.

    vLLM offers logprobs before the temperature, or after all that shapes the distribution.
    """

    _temperature: torch.Tensor | None = None

    def forward(
        self, logits: torch.Tensor, sampling_metadata: SamplingMetadata, *args: Any, **kwargs: Any
    ) -> SamplerOutput:
        """Sample one token a row."""
        self._temperature = sampling_metadata.temperature  # [B]; None: all rows are greedy
        try:
            return super().forward(logits, sampling_metadata, *args, **kwargs)
        finally:
            self._temperature = None

    def compute_logprobs(self, logits: torch.Tensor) -> torch.Tensor:
        """[B, V], float32. A prompt's logprobs have temperature 1."""
        if self._temperature is not None:
            greedy = self._temperature < 1e-5
            logits = logits / self._temperature.masked_fill(greedy, 1.0).unsqueeze(1)
        return logits.log_softmax(dim=-1, dtype=torch.float32)


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)
