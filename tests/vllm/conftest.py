"""Servers of the real vLLM. Each takes most of a minute to start, so tests share them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import PreTrainedModel, Qwen3ForCausalLM

from ajet.engine.vllm.engine import VllmEngine
from ajet.engine.vllm.server import VllmServer, vllm_command
from tests.torch.small_model import small_model

TOKENIZER = Path("ajet/tiny_model/calculator")
MAX_MODEL_LEN = 2048


def tied_model(seed: int) -> PreTrainedModel:
    """The input embeddings are the output head as well."""
    config = small_model(seed).config
    config.tie_word_embeddings = True
    return Qwen3ForCausalLM(config).eval()


MODELS = {"untied": small_model, "tied": tied_model}


@dataclass
class Running:
    """A server, the engine in front of it, and the model that it serves."""

    engine: VllmEngine
    server: VllmServer
    kind: str
    log: Path

    def model(self, seed: int) -> PreTrainedModel:
        """Another one of the same architecture."""
        return MODELS[self.kind](seed)


def save(model: PreTrainedModel, folder: Path) -> Path:
    """As vLLM loads it, tokenizer included."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TOKENIZER / name).read_bytes())
    return folder


def make_server(folder: Path, log: Path, port: int | None = None) -> VllmServer:
    """Not started yet."""
    command, env = vllm_command(
        folder,
        python=None,
        device="cpu",
        dtype="float32",
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=16,
        num_threads=1,
        kv_cache_gb=0.25,
        options={},
    )
    return VllmServer("vllm", command, env=env, port=port, log=log, start_timeout_s=240)


@pytest.fixture(scope="session", params=list(MODELS))
def running(request, tmp_path_factory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp(request.param)
    model = save(MODELS[request.param](0), folder / "model")
    server = make_server(model, folder / "vllm.log")
    server.start()
    engine = VllmEngine(servers=[server])
    yield Running(engine, server, request.param, folder / "vllm.log")
    asyncio.run(engine.aclose())
