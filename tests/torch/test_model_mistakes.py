"""What is wrong with a model is one sentence, and the same from `ajet check` as at the start.

1. Weights: a missing one, a Git LFS pointer, a truncated file, a missing shard, a broken link,
   another shape, integers, a quantized model, NaN. Files of JSON that are none. Weights that no
   layer takes are named when they are read.
2. Architectures that the embedded engine cannot serve; attention that needs `eager`.
3. What trains is not refused: GPT-2's names in config.json, PyTorch's weight files, tied weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    Llama4TextConfig,
    MambaConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from ajet.diagnostics.memory_estimate import size_of
from ajet.engine.embedded.load import check_loading, check_model, load_model, longest_sequence
from ajet.errors import ModelError
from ajet.model_files import check_values

SIZE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
WEIGHT = "model.layers.0.mlp.down_proj.weight"


def build(folder: Path, config: PreTrainedConfig) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return build(tmp_path, Qwen3Config(**SIZE, head_dim=8, tie_word_embeddings=True))


def at_start(folder: Path, attention: str = "sdpa", max_model_len: int | None = None) -> None:
    model = load_model(folder, attn_implementation=attention)
    check_model(model, max_model_len or longest_sequence(model))


def assert_refused(
    folder: Path, message: str, attention: str = "sdpa", max_model_len: int | None = None
) -> None:
    for ask in (check_loading, at_start):
        with pytest.raises(ModelError, match=message) as raised:
            ask(folder, attention, max_model_len)
        assert "\n" not in str(raised.value)


def lose_a_weight(file: Path) -> None:
    weights = load_file(file)
    del weights[WEIGHT]
    save_file(weights, file, metadata={"format": "pt"})


def make_a_pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def change_a_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def changed(file: Path) -> None:
        weights = load_file(file)
        save_file({**weights, WEIGHT: change(weights[WEIGHT])}, file, metadata={"format": "pt"})

    return changed


def set_config(**settings: object) -> Callable[[Path], None]:
    def changed(file: Path) -> None:
        config = file.parent / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))

    return changed


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("../blobs/0123")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lose_a_weight, f"the checkpoint lacks 1 of the model's weights: {WEIGHT};"),
        (make_a_pointer, "model.safetensors is a Git LFS pointer, not the weights: fetch them"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:20_000]),
            r"model.safetensors is truncated: it has 20,000 bytes, and its header says \d\d,",
        ),
        (lambda file: file.write_bytes(b"\xff" * 99), "has 99 bytes, fewer than its header"),
        (
            lambda file: (file.parent / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {WEIGHT: "model-00002-of-00002.safetensors"}})
            ),
            r"model-00002-of-00002\.safetensors is missing; model\.safetensors\.index\.json lists",
        ),
        (
            lambda file: (file.parent / "model.safetensors.index.json").write_text("[1]"),
            "index.json has a JSON list, expected an object",
        ),
        (link_to_nothing, "model.safetensors is a link to a file that is not there"),
        (change_a_weight(lambda w: w[:1].clone()), rf"{WEIGHT} is \[1, 48\], expected \[32, 48\]"),
        (change_a_weight(lambda w: w.to(torch.int8)), rf"{WEIGHT} has integers \(I8\)"),
        (set_config(quantization_config={"quant_method": "gptq"}), r"is quantized \(gptq\)"),
        (set_config(hidden_size=64), r"the shapes of weights are not those of config.json"),
        (
            set_config(num_hidden_layers=5),
            "cannot be loaded as a causal language model: .*layer_types",
        ),
        (lambda file: (file.parent / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda file: (file.parent / "config.json").write_text("[]"), "has a JSON list, expected"),
    ],
)
def test_damaged_weights(qwen: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(qwen / "model.safetensors")
    assert_refused(qwen, message)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(qwen: Path, value: float) -> None:
    change_a_weight(lambda w: w.index_fill(0, torch.tensor([3]), value))(qwen / "model.safetensors")
    with pytest.raises(ModelError, match=f"NaN or infinite, 1 in all: {WEIGHT};"):
        at_start(qwen)
    with pytest.raises(ModelError, match=f"NaN or infinite, 1 in all: {WEIGHT};"):
        check_values(qwen)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_weights_of_every_kind_are_fine_for_check(qwen: Path, kind: torch.dtype) -> None:
    change_a_weight(lambda w: w.fill_(torch.finfo(torch.float16).max).to(kind))(
        qwen / "model.safetensors"
    )
    check_values(qwen)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_infinite_weights_of_half_precision_are_bad_for_check(
    qwen: Path, kind: torch.dtype
) -> None:
    change_a_weight(lambda w: w.fill_(float("-inf")).to(kind))(qwen / "model.safetensors")
    with pytest.raises(ModelError, match=f"NaN or infinite, 1 in all: {WEIGHT};"):
        check_values(qwen)


def test_weights_that_no_layer_takes_are_named(
    qwen: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_config(num_hidden_layers=1, layer_types=["full_attention"])(qwen / "model.safetensors")
    at_start(qwen)
    assert "11 weights of the checkpoint are in no layer of the model" in caplog.text


def test_an_adapter_of_another_kind_is_refused(qwen: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "PROMPT_TUNING", "base_model_name_or_path": str(qwen)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert_refused(adapter, "an adapter of the kind PROMPT_TUNING; only LORA can be merged")


@pytest.mark.parametrize(
    ("config", "attention", "message"),
    [
        (
            Llama4TextConfig(
                **SIZE,
                head_dim=8,
                num_local_experts=2,
                attention_chunk_size=32,
                intermediate_size_mlp=48,
            ),
            "sdpa",
            "llama4_text has layers of type chunked_attention",
        ),
        (Gemma2Config(**SIZE, head_dim=8), "sdpa", "set ajet.model.attn_implementation: eager"),
        (
            BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4),
            "eager",
            "bloom takes no position_ids",
        ),
        (
            MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=8),
            "eager",
            "mamba takes no position_ids and no past_key_values",
        ),
        (
            BertConfig(
                vocab_size=64,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
            ),
            "eager",
            "bert reads a text in both directions",
        ),
    ],
)
def test_models_that_the_engine_cannot_serve(
    tmp_path: Path, config: PreTrainedConfig, attention: str, message: str
) -> None:
    assert_refused(build(tmp_path, config), message, attention)


def test_a_length_that_the_model_has_no_positions_for(qwen: Path) -> None:
    message = "max_model_len is 4096, but the model has only 128 positions"
    assert_refused(qwen, message, max_model_len=4096)


def test_what_trains_is_not_refused(qwen: Path, tmp_path: Path) -> None:
    for ask in (check_loading, at_start):
        ask(qwen, "sdpa", 128)  # its output head is tied, and not in the file
    torch.save(load_file(qwen / "model.safetensors"), qwen / "pytorch_model.bin")
    (qwen / "model.safetensors").unlink()
    gpt2 = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    for folder in (qwen, build(tmp_path / "gpt2", gpt2)):
        for ask in (check_loading, at_start):
            ask(folder, "sdpa", 128)
        assert size_of(folder).max_length == 128
        assert size_of(folder).layers == 2
