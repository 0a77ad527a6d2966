"""The memory of a run, from the model's files: each part is what the formula says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ajet.diagnostics.memory_estimate import GB, ModelSize, estimate, size_of
from ajet.errors import ModelError
from tests.unit.config_files import MINIMAL, load

SIZE = ModelSize(
    parameters=1000,
    layers=2,
    hidden=10,
    intermediate=30,
    queries=12,
    keys=6,
    vocabulary=50,
    max_length=64,
)
OVERRIDES = ("rollout.max_env_worker=3", "trainer_common.micro_batch_tokens=32")
PER_LAYER = 4 * (2 * 10 + 12 + 6 + 30)


def parts(folder: Path, *overrides: str, on_gpu: bool = False) -> dict[str, float]:
    return estimate(SIZE, load(folder, MINIMAL, *OVERRIDES, *overrides).ajet, on_gpu=on_gpu)


def test_float32_on_a_cpu(tmp_path: Path) -> None:
    assert parts(tmp_path) == {
        "weights": 4000,
        "gradients": 4000,
        "optimizer": 8000,
        "activations of 64 tokens": 64 * (2 * PER_LAYER * 4 + 5 * 4 * 50),
        "key-values of 3 x 64 tokens": 2 * 3 * 64 * 6 * 4 * 2,
        "Python": GB / 2,
    }


@pytest.mark.parametrize(("on_gpu", "most"), [(False, 2**24), (True, 2**26)])
def test_logits_are_in_memory_only_in_part(tmp_path: Path, on_gpu: bool, most: int) -> None:
    size = replace(SIZE, vocabulary=150_000, layers=0)
    found = {}
    for backbone in ("local", "verl"):
        overrides = ("trainer_common.micro_batch_tokens=8192", f"backbone={backbone}")
        found[backbone] = estimate(size, load(tmp_path, MINIMAL, *overrides).ajet, on_gpu=on_gpu)
    assert found["local"]["activations of 8,192 tokens"] == 5 * 4 * most
    assert found["verl"]["activations of 8,192 tokens"] == 5 * 4 * 8192 * 150_000


def test_bfloat16_on_a_gpu_has_float32_copies(tmp_path: Path) -> None:
    found = parts(tmp_path, on_gpu=True)
    assert (found["weights"], found["gradients"], found["optimizer"]) == (2000, 2000, 16000)


def test_a_kl_loss_needs_the_weights_twice(tmp_path: Path) -> None:
    assert parts(tmp_path, "trainer_common.use_kl_loss=true")["weights"] == 8000


def test_a_vllm_engine_has_weights_of_its_own(tmp_path: Path) -> None:
    found = parts(tmp_path, "rollout.name=vllm", "rollout.vllm.num_engines=2")
    assert found["2 vLLM engines"] == 2 * (4000 + GB)
    assert not any(name.startswith("key-values") for name in found)


def test_a_model_is_read_from_config_and_headers(tmp_path: Path) -> None:
    config = {
        "hidden_size": 10,
        "intermediate_size": 30,
        "num_attention_heads": 4,
        "head_dim": 3,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "vocab_size": 50,
        "max_position_embeddings": 64,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, shape in (("a", [20, 30]), ("b", [400])):
        header = {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": shape}}
        content = json.dumps(header).encode()
        (tmp_path / f"{name}.safetensors").write_bytes(len(content).to_bytes(8, "little") + content)
    assert size_of(tmp_path) == SIZE


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        size_of(tmp_path)
    (tmp_path / "config.json").write_text('{"num_attention_heads": 4, "hidden_size": 8}')
    with pytest.raises(ModelError, match="there is no safetensors file"):
        size_of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    with pytest.raises(ModelError, match="the key 'num_hidden_layers' is missing"):
        size_of(tmp_path)
